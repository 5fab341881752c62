"""python slim.py: the same as sparsity slim."""

from sparsity.commands.running import run_command

if __name__ == "__main__":
    run_command("slim", prog="slim.py")
