"""A certificate in one sentence."""

from saes.certificate import Certificate


def in_words(proof: Certificate) -> str:
    if proof.method == "bits":
        return "Certified: every tensor is the same, bit for bit."
    return (
        f"Certified: the same features fire for {proof.n_vectors} inputs; activations differ by at "
        f"most {proof.max_rel_acts:.0e}, reconstructions by {proof.max_rel_recon:.0e}."
    )
