"""Files that lie beside the weights of a language model: those have the same names as an SAE's."""

import re

from saes.formats.base import Tree

MODEL = re.compile(
    r"tokenizer.*|chat_template.*|special_tokens_map\.json|added_tokens\.json|vocab\.(?:json|txt)|"
    r"merges\.txt|spiece\.model|sentencepiece.*|modules\.json|"
    r"(?:generation|preprocessor|processor|adapter)_config\.json|adapter_model\..*|"
    r"pytorch_model.*\.bin|model-\d+-of-\d+\..*|tf_model\.h5|flax_model\.msgpack|.*\.index\.json"
)
TRAINER = re.compile(r"(?:optimizer|scheduler)\.(?:pt|bin)|trainer_state\.json")  # Hugging Face's
# Of its Trainer too, but it may also have trained an SAE: then a name says so.
TRAINED = re.compile(r"training_args\.bin|rng_state.*\.pth")
SAE_WORDS = re.compile(
    r"(?:^|[^a-z])saes?(?=$|[^a-z])|auto-?encoder|dictionary|transcoder|crosscoder|topk", re.I
)

UPLOADS = re.compile(
    SAE_WORDS.pattern + r"|sae|dict|coder|sparse|mistudio|(?:^|[/_-])layer[._-]?\d+(?=$|[/_-])",
    re.I,
)


def has_tokenizer(tree: Tree, folder: str) -> bool:
    """Or whatever else of a language model only: not what any training leaves behind."""
    return any(map(MODEL.fullmatch, tree.folders.get(folder, ())))


def is_language_model(tree: Tree, folder: str) -> bool:
    """Whether config.json and model.safetensors in it are a language model's, by names alone."""
    held = tree.folders.get(folder, ())
    if has_tokenizer(tree, folder) or any(map(TRAINER.fullmatch, held)):
        return True
    return any(map(TRAINED.fullmatch, held)) and not says_sae(tree, folder)


def says_sae(tree: Tree, name: str) -> bool:
    return SAE_WORDS.search(f"{tree.repo_id or ''}/{name}") is not None


def is_upload_of_sae(tree: Tree, folder: str) -> bool:
    """Whether config.json and model.safetensors in it are an SAE's: in a repository that takes a
    word, for any model may lie there under these names."""
    if is_language_model(tree, folder):
        return False
    return tree.repo_id is None or UPLOADS.search(f"{tree.repo_id}/{folder}") is not None
