"""python -m sparsity COMMAND: the same as the console command sparsity."""

from sparsity.commands.running import main

if __name__ == "__main__":
    main()
