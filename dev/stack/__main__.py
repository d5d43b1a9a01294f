from dev.stack.cli import app

app(prog_name="python -m dev.stack")
