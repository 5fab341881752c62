"""Run a network on several batches together: all batches stop at each layer in turn."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparsity.pruning.layers import every_output

Visit = Callable[[nn.Module, list[Tensor]], Iterator[Tensor]]
"""A layer and the input of each batch to it -> the output of each batch, in order. It can empty the list."""


def run_in_lockstep(
    network: nn.Module, batches: Sequence[Tensor], layers: Collection[nn.Module], visit: Visit
) -> None:
    """Run network on every batch. Where it calls one of layers, visit computes the outputs of that layer.

    If the network has a method every_output, this method is called instead (see layers.every_output).

    visit is called once for each call of a layer, in the order of the calls, after all batches have reached
    the layer. It can change the layer before it computes the outputs. Each batch has its own thread, but only
    one batch runs at a time, without gradients. The feature maps of all batches are in memory at the same
    time. Batches can differ in shape. An exception of a batch is raised here.
    """
    runners = [_Runner(network, batch) for batch in batches]
    try:
        for layer in layers:
            layer.forward = lambda x, layer=layer: _arrive(layer, x)
        _advance(runners, visit)
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
        for runner in runners:
            runner.cancel()


def _advance(runners: Sequence[_Runner], visit: Visit) -> None:
    halts = [runner.resume() for runner in runners]
    while halts and halts[0] is not None:
        layers = {halt[0] for halt in halts if halt is not None}
        assert len(layers) == 1, "the batches take different paths through the network"
        inputs = [halt[1] for halt in halts]
        del halts
        outputs = visit(layers.pop(), inputs)
        halts = [runner.resume(output) for runner, output in zip(runners, outputs, strict=True)]


def _arrive(layer: nn.Module, x: Tensor) -> Tensor:
    """Replace the forward of a layer: wait for the output."""
    runner = threading.current_thread()
    assert isinstance(runner, _Runner)
    return runner.halt(layer, x)


class _CancelledError(Exception):
    """The batch is cancelled."""


class _Runner(threading.Thread):
    """The thread of a batch. It runs only between resume and the next halt."""

    def __init__(self, network: nn.Module, batch: Tensor) -> None:
        super().__init__(daemon=True)
        self._network, self._batch = network, batch
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        try:
            self._wait()
            with torch.no_grad():
                every_output(self._network)(self._batch)
            self._news.put(None)
        except _CancelledError:
            return
        except BaseException as error:
            self._news.put(error)

    def resume(self, output: Tensor | None = None) -> tuple[nn.Module, Tensor] | None:
        """Continue with the output of a layer. Return the next layer and its input; None at the end."""
        self._orders.put(output)
        del output
        news = self._news.get()
        if isinstance(news, BaseException):
            raise news
        return news

    def halt(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Report a layer and its input, and wait for the output. Called in the thread of the batch."""
        self._news.put((layer, x))
        del x
        return self._wait()

    def cancel(self) -> None:
        """End the thread, wherever it waits."""
        self._orders.put(_CancelledError())
        self.join()

    def _wait(self) -> Tensor:
        order = self._orders.get()
        if isinstance(order, _CancelledError):
            raise order
        return order
