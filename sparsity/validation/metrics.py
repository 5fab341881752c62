"""What a validation measures: one frozen dataclass is one row of a CSV and one metrics.json."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metrics:
    """Setup and figures of one validation.

    criterion and scope as Method has them; pattern: N:M or unstructured; keep: names of layers that stayed
    dense, divided by blanks. channels_removed: dead output channels of convolutions that were taken out after
    pruning; their zeros went with them, and what is counted is what is left. sparsity_conv is zeros over the
    weights of every Conv2d, sparsity_model zeros over all parameters (YOLOv5's "global sparsity"). P, R,
    mAP50, mAP50_95 are YOLOv5's own metric; AP to AR_large are pycocotools' twelve, -1 where the data have no
    true box of that size. Times are per image.
    engine: what ran the network: torch, onnxruntime, openvino or sparse.
    """

    weights: str
    data: str
    criterion: str
    scope: str
    pattern: str
    keep: str
    amount: float | None
    channels_removed: int
    conv_layers: int
    conv_weights: int
    conv_zeros: int
    parameters: int
    sparsity_conv: float
    sparsity_model: float
    images: int
    instances: int
    P: float
    R: float
    mAP50: float
    mAP50_95: float
    AP: float
    AP50: float
    AP75: float
    AP_small: float
    AP_medium: float
    AP_large: float
    AR1: float
    AR10: float
    AR100: float
    AR_small: float
    AR_medium: float
    AR_large: float
    preprocess_ms: float
    inference_ms: float
    nms_ms: float
    engine: str
    device: str
    precision: str
    imgsz: int
    batch_size: int
    conf_thres: float
    iou_thres: float
    torch: str
