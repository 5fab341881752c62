"""python sweep.py: the same as sparsity sweep."""

from sparsity.commands.running import run_command

if __name__ == "__main__":
    run_command("sweep", prog="sweep.py")
