"""python val_sparse.py: the same as sparsity val."""

from sparsity.commands.running import run_command

if __name__ == "__main__":
    run_command("val", prog="val_sparse.py")
