"""`python -m limiter.ctl`."""

from limiter.ctl import main

if __name__ == "__main__":
    main()
