"""How long the sentences are: `python docs/sentences.py` prints a line a page, then every sentence above 40 words.

A report, not a gate: the aim is a median of at most 18 words and none above 40. It reads the pages and the committed
notebooks with what their cells write as Markdown. Tables, captions, formulas on lines of their own and code are no
sentences.
"""

import json
import re
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("*.md", "docs/*.md", "data/README.md", "notebooks/0*.ipynb")
LONG = 40  # words
NO_PROSE = (r"\A---\n.*?\n---\n", r"```.*?```", r"\$\$.*?\$\$", r"<!--.*?-->")
ENDS = r"(?<=[.!?])\)?\s+"
BLOCKS = r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)|\n(?=#)|\n(?=\|)"  # paragraphs, list items, headings, rows of a table


def split_sentences(text: str) -> list[str]:
    """The sentences of Markdown: what ends with a full stop, a question or exclamation mark, or with its paragraph.

    Example:
        >>> split_sentences("# Title\\n\\nOne step. It costs $a + b$ here:\\n\\n- a [link](page.md)\\n- `x = 1`")
        ['One step.', 'It costs $ here:', 'a link', '`']
    """
    for pattern in NO_PROSE:
        text = re.sub(pattern, "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]+\$", "$", re.sub(r"`[^`]+`", "`", text))  # a formula or a name counts as a word
    text = re.sub(r"</?\w[^>]*>", "", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text))
    blocks = [block.strip() for block in re.split(BLOCKS, text)]
    prose = [
        re.sub(r"^(?:[-*]|\d+\.)\s+", "", block)
        for block in blocks
        if block and block[0] not in "#|" and " · " not in block
    ]
    return [" ".join(part.split()) for block in prose for part in re.split(ENDS, block) if part.strip()]


def read_prose(page: Path) -> str:
    """The text of a page; of a notebook its Markdown cells and what its other cells write as Markdown."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    written = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    written += [data["text/markdown"] for data in outputs if "text/markdown" in data]
    return "\n\n".join("".join(lines) for lines in written)


def report() -> None:
    """Print sentences, median and longest of every page, then every sentence above `LONG` words."""
    everything, long = [], []
    for page in sorted(page for pattern in PAGES for page in ROOT.glob(pattern)):
        sentences = {sentence: len(sentence.split()) for sentence in split_sentences(read_prose(page))}
        name, lengths = str(page.relative_to(ROOT)), list(sentences.values())
        middle, longest = median(lengths or [0]), max(lengths, default=0)
        print(f"{name:36} {len(lengths):4} sentences, median {middle:g}, longest {longest}")
        everything += lengths
        long += [(length, name, sentence) for sentence, length in sentences.items() if length > LONG]
    print(f"{len(everything)} sentences, median {median(everything):g}, {len(long)} above {LONG} words")
    for length, name, sentence in sorted(long, reverse=True):
        print(f"\n{length} words in {name}: {sentence}")


if __name__ == "__main__":
    report()
