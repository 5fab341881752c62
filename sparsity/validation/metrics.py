"""The metrics of a validation: one row of a CSV file, and one metrics.json."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metrics:
    """Setup and figures of one validation.

    criterion, scope: as in Method. pattern: N:M, pair, quad or unstructured.
    keep: the names of layers that stayed dense, separated by spaces.
    amount, budget: how much was to be pruned, and of what: weights, flops or latency.
    channels_removed: the number of dead output channels of convolutions that were removed after pruning.
    Their zeros were removed too, and all counts are those of the remaining network.
    sparsity_conv: zeros divided by the weights of all Conv2d layers.
    sparsity_model: zeros divided by all parameters (YOLOv5's "global sparsity").
    macs_left, gmacs_left: multiply-adds of weights that are not zero, for an image of imgsz x imgsz: as a
    share of all, and in 1e9. -1 for an ONNX file.
    predicted_ms: with budget latency, the milliseconds of the sparse engine for one image, by the times of
    its layers, before dead channels are removed; None with other budgets.
    P, R, mAP50, mAP50_95: the own metric of the network's family.
    AP to AR_large: the twelve figures of pycocotools; -1 where the data have no true box of that size.
    preprocess_ms, inference_ms, nms_ms: milliseconds per image.
    iou_thres: of NMS; without effect where there is none.
    head: the branch of a YOLO26's head that was counted: one2many, with NMS, or one2one, without. "" for
    networks whose head has no branches.
    depthwise: what became of depthwise layers: "dense" or "pruned"; "" for networks without any.
    engine: the engine that ran the network: torch, onnxruntime, openvino or sparse.
    """

    weights: str
    data: str
    criterion: str
    scope: str
    pattern: str
    keep: str
    amount: float | None
    budget: str
    channels_removed: int
    conv_layers: int
    conv_weights: int
    conv_zeros: int
    parameters: int
    sparsity_conv: float
    sparsity_model: float
    macs_left: float
    gmacs_left: float
    predicted_ms: float | None
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
    head: str = ""
    depthwise: str = ""
