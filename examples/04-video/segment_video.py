"""Paint what an IR sees over a video or a camera's pictures: python segment_video.py MODEL.xml SOURCE [TARGET]

Needs openvino, numpy, Pillow and opencv-python. SOURCE is a video file, or the number of a camera: 0. TARGET is the
video to write (.mp4, .avi); without one a window shows the frames, until q is pressed.
"""

import sys
from collections import deque
from collections.abc import Iterator

import cv2
import numpy as np
import openvino
from openvino.preprocess import PrePostProcessor
from PIL import Image

OPACITY = 0.5
FORMATS = {"avi": "MJPG", "mp4": "mp4v"}
Frame = np.ndarray  # bytes [H, W, 3]: blue, green, red, as OpenCV and the IR have them


def read_model(xml: str) -> openvino.Model:
    """The model with an input of bytes [1, H, W, 3], whatever the IR's own is."""
    model = openvino.Core().read_model(xml)
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    model = steps.build()
    openvino.set_batch(model, 1)
    return model


def compile_model(model: openvino.Model) -> openvino.CompiledModel:
    hint = ["runtime_options", "INFERENCE_PRECISION_HINT"]  # f32 in an IR that `to-ir --winograd` made
    options = {hint[1]: model.get_rt_info(hint).astype(str)} if model.has_rt_info(hint) else {}
    return openvino.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", **options})


def palette_of(model: openvino.Model) -> tuple[np.ndarray, np.ndarray]:
    """A colour for each class [classes, 3], and its opacity [classes, 1]: 0 for the background."""
    names = model.get_rt_info(["model_info", "labels"]).astype(str).split()
    hues = (np.arange(len(names)) * 180 // len(names)).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 255), np.full_like(hues, 255)], axis=1)
    opacity = np.array([[0.0 if name == "background" else OPACITY] for name in names], np.float32)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR)[0], opacity


def frames(source: str) -> Iterator[Frame]:
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not capture.isOpened():
        sys.exit(f"error: {source}: cannot be read as a video")
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield frame


def label_maps(compiled: openvino.CompiledModel, source: Iterator[Frame]) -> Iterator[tuple[Frame, np.ndarray]]:
    """Each frame with its label map, of the model's size, in order. Several requests run at once."""
    (label_map,) = (output for output in compiled.outputs if output.element_type.is_integral())
    _, height, width, _ = compiled.input().shape
    free = [compiled.create_infer_request() for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))]
    running: deque[tuple[Frame, openvino.InferRequest]] = deque()

    def finished() -> tuple[Frame, np.ndarray]:
        frame, request = running.popleft()
        request.wait()
        free.append(request)
        return frame, request.get_tensor(label_map).data[0, 0].astype(np.uint8)

    for frame in source:
        if not free:
            yield finished()
        request = free.pop()
        image = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        request.start_async({0: np.asarray(image)[None]})
        running.append((frame, request))
    while running:
        yield finished()


def painted(frame: Frame, labels: np.ndarray, palette: tuple[np.ndarray, np.ndarray]) -> Frame:
    colours, opacity = palette
    large = cv2.resize(labels, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)
    return (frame + opacity[large] * (colours[large] - frame.astype(np.float32))).round().astype(np.uint8)


def rate_of(source: str) -> float:
    """Frames a second; 25 where the source does not say."""
    return 25.0 if source.isdecimal() else cv2.VideoCapture(source).get(cv2.CAP_PROP_FPS) or 25.0


def write(pictures: Iterator[Frame], target: str, rate: float) -> None:
    video = None
    for picture in pictures:
        if video is None:
            code = cv2.VideoWriter.fourcc(*FORMATS[target.rpartition(".")[2].lower()])
            video = cv2.VideoWriter(target, code, rate, (picture.shape[1], picture.shape[0]))
            if not video.isOpened():
                sys.exit(f"error: {target}: cannot be written")
        video.write(picture)
    if video is not None:
        video.release()


def show(pictures: Iterator[Frame]) -> None:
    for picture in pictures:
        cv2.imshow("pspnet-convert", picture)
        if cv2.waitKey(1) == ord("q"):
            return


def main(xml: str, source: str, target: str | None = None) -> None:
    model = read_model(xml)
    compiled, palette = compile_model(model), palette_of(model)
    pictures = (painted(frame, labels, palette) for frame, labels in label_maps(compiled, frames(source)))
    if target is None:
        show(pictures)
    else:
        write(pictures, target, rate_of(source))


if __name__ == "__main__":
    main(*sys.argv[1:])
