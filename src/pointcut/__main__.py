"""`python -m pointcut` is the command `pointcut`."""

from pointcut.cli.main import main

if __name__ == "__main__":
    main()
