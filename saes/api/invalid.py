"""What is wrong with a request, in our own words: those of the validator are not for users."""

from typing import Any

from saes.errors import BadBody, BadRequest, SaeError

IN_BODY = "body"
LONGEST_NAME = 50
# By the validator's name of the mistake; in braces what it knows of it.
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no field of this request",
    "string_type": "should be a text",
    "string_unicode": "is not valid Unicode",
    "string_too_short": "should have {min_length} characters or more",
    "string_too_long": "should have {max_length} characters at most",
    "string_pattern_mismatch": "holds characters that it may not",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_parsing_size": "is too large a number",
    "int_from_float": "should be a whole number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "greater_than_equal": "should be {ge} or more",
    "less_than_equal": "should be {le} at most",
    "literal_error": "should be one of {expected}",
    "list_type": "should be a list",
    "too_short": "should have {min_length} entries or more",
    "too_long": "should have {max_length} entries at most",
    "dict_type": "should be an object",
    "model_attributes_type": "should be an object",
    "model_type": "should be an object",
    "one_or_several": "should have one of sae_id and saes, and not both",
    "which_jobs": "should have one of job_ids, batch_id and all, and no other of them",
}


def explained(mistakes: list[dict[str, Any]]) -> SaeError:
    """The first mistake, by its name; a value is never repeated, it may be a token."""
    first = mistakes[0]
    place, *path = first["loc"]
    kind = BadBody if place == IN_BODY else BadRequest
    said, known = first["type"], first.get("ctx", {})
    if said == "unknown_parameter":
        return kind(f"{known['name'][:LONGEST_NAME]!r} is no parameter of this address.")
    words = WORDS.get(said, "is not valid").format_map(known)
    return kind(f"{_name(place, path)} {words}.")


def _name(place: str, path: list[str | int]) -> str:
    """The field, without the function's own parameter before it and the validator's ways below."""
    names = path[1:] if place == IN_BODY else path
    if not names:
        return "The body" if place == IN_BODY else "The address"
    return repr(str(names[0])[:LONGEST_NAME])
