"""The front matter of a README: read and written as the Hub's client does, and no trick works."""

from typing import Any

import huggingface_hub as hf
import yaml

from saes.errors import BadCard

LONGEST = 2**20  # letters of a README
MARK = "\ufeff"  # some editors put it before the first letter; front matter comes before it


def read(text: str) -> dict[str, Any]:
    """What a README says of itself; nothing where it has no front matter. Raises BadCard."""
    if not text.strip():
        return {}
    return dict(_card(text).data.to_dict())  # type: ignore[no-untyped-call]


def with_data(text: str, data: dict[str, Any]) -> str:
    """The same README with this front matter: what is below stays byte for byte. Raises BadCard.

    Front matter that says so already stays as it was written, comments included.
    """
    if text.strip() and read(text) == data:
        return text
    card = _card(text)
    try:
        card.data = hf.ModelCardData(**data)
        return str(card.content)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise BadCard("The front matter of README.md cannot be merged.") from error


def _card(text: str) -> hf.ModelCard:
    if len(text) > LONGEST:
        raise BadCard(f"README.md has more than {LONGEST:,} letters.")
    try:
        text = text.removeprefix(MARK) or "\n"
        found = hf.repocard.REGEX_YAML_BLOCK.search(text)
        _refuse_aliases(found.group(2) if found else "")
        return hf.ModelCard(text)
    except RecursionError as error:
        raise BadCard("The front matter of README.md is nested too deeply.") from error
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise BadCard("The front matter of README.md is no valid YAML table.") from error


def _refuse_aliases(block: str) -> None:
    """A few lines with aliases may stand for gigabytes, once somebody copies them."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block)):
        raise BadCard("The front matter of README.md has aliases; write out what they stand for.")
