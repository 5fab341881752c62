"""The table of saved forms, by the suffix of the file. Listing the suffixes imports none of the forms."""

from __future__ import annotations

from sparsity.base.table import Table
from sparsity.formats.saved_form import SavedForm

FORMS: Table[SavedForm] = Table(
    "saved form",
    {
        ".pt": "sparsity.formats.pt:FORM",
        ".safetensors": "sparsity.formats.compressed:FORM",
        ".onnx": "sparsity.formats.onnx_file:FORM",
        ".c": "sparsity.formats.c_file:FORM",
    },
)
"""Suffix -> form. Add one with FORMS.register(".suffix", SavedForm(read, write))."""
