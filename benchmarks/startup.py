"""What the first line costs: `cmprompt --help` against importing typer, in turn, fresh processes.

python benchmarks/startup.py
"""

from __future__ import annotations

import sys

from harness import Line, about, cmprompt, in_turn, median, parser, run, save

MOST = 3.0  # times the import of typer


def main() -> None:
    """Save the medians and their ratios."""
    asked = parser(__doc__, rounds=15).parse_args()
    commands = {
        "import typer": [sys.executable, "-c", "import typer"],
        "cmprompt --help": cmprompt("--help"),
        "cmprompt classify --help": cmprompt("classify", "--help"),
    }
    facts = about()
    made = {name: lambda command=command: run(command, asked.work).seconds for name, command in commands.items()}
    times = in_turn(made, asked.rounds)
    base, *helps = times
    lines = []
    for name in helps:
        us, typer = median(times[name]), median(times[base])
        both = {name: times[name], base: times[base]}
        most = MOST if name == "cmprompt --help" else None
        lines.append(Line(name, base, us / typer, most, None, us, typer, below=True, times=both))
    print(save("startup", "What the first line costs", lines, facts, asked.out))


if __name__ == "__main__":
    main()
