"""python predict.py: the same as sparsity predict."""

from sparsity.commands.running import run_command

if __name__ == "__main__":
    run_command("predict", prog="predict.py")
