"""python finetune.py: the same as sparsity finetune."""

from sparsity.commands.running import run_command

if __name__ == "__main__":
    run_command("finetune", prog="finetune.py")
