"""The page of the service in a browser. This module needs Gradio."""

import contextvars
import functools
import html
import os
from collections.abc import Callable
from typing import Any

import gradio as gr

from pyimagesearch.data.image_io import FORMATS, IMAGE_ENDINGS
from pyimagesearch.errors import UserError
from pyimagesearch.files import fault
from pyimagesearch.inference import video_formats
from pyimagesearch.inference.previews import STRONGEST, VISIBLE
from pyimagesearch.inference.service import Service, Tell
from pyimagesearch.inference.sessions import Sessions, StopRequest

LIFETIME = 3600
"""The age in seconds at which uploads and results are removed, if the page is still open."""

_SWEEP = 60  # seconds between two searches for old files
_COMPUTATION = {"concurrency_id": "upscaling", "concurrency_limit": 1, "api_visibility": "private"}
_AT_ONCE = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_PROGRESS = gr.Progress()
_CLOSED = {
    "prevent_thread_lock": True,
    "share": False,
    "mcp_server": False,
    "ssr_mode": False,
    "pwa": False,
    "enable_monitoring": False,
    "run_history": False,
    "footer_links": [],
    "quiet": True,
}
_STYLE = ".gradio-container { max-width: 1280px !important; margin: 0 auto !important }"

_USES = {
    "photo": "for photographs, JPEG files, noise",
    "srgan": "for clean images: sharpest, invents texture",
    "pretrained": "for clean images: faithful, less sharp",
    "photo-pretrained": "as photo: faithful, less sharp",
    "fast": "for previews and videos",
}

_TITLE = "SRGAN: upscale to four times the size"

_INTRODUCTION = """# SRGAN ×4
Upscale photographs and videos to four times their width and height. The machine that serves this page computes the
results and sends nothing to other machines. Uploads and results are removed when you close the page, and after an hour.
"""

_INVENTED = """A network cannot know details that the input does not show. The *pretrained* generator draws only what is
likely. *SRGAN* also draws details that look real. This view shows the difference between the two."""

_LEGEND = f"""Left: the result of SRGAN. Right: its difference from the result of the pretrained generator. Grey means
no difference. Red and yellow mean a difference; yellow is {STRONGEST} of 255 levels and more."""

_NO_VIDEOS = f"V{video_formats.NO_PYAV[1:]}, then start the program again."

_ZOOM = (
    "Turn the mouse wheel to zoom, drag to move. The button at the upper right shows the images on the whole screen."
)


class Page:
    """The page, its parts and what they do."""

    def __init__(self, service: Service, sessions: Sessions) -> None:
        """Build the page.

        Args:
            service: upscales.
            sessions: the files of the users.
        """
        self._service, self._sessions = service, sessions
        removal = _SWEEP, LIFETIME
        with gr.Blocks(title=_TITLE, analytics_enabled=False, fill_width=True, delete_cache=removal) as self.blocks:
            gr.Markdown(_INTRODUCTION)
            with gr.Tab("Images"):
                self._build_images()
            with gr.Tab("What was invented"):
                self._build_invented()
            with gr.Tab("Video"):
                self._build_video() if video_formats.is_available() else gr.Markdown(_NO_VIDEOS)
            self.blocks.unload(self._leave)

    def _build_images(self) -> None:
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                files = gr.File(file_count="multiple", file_types=[*IMAGE_ENDINGS], label="Images", height=180)
                name, alpha = self._build_choice()
                form = gr.Dropdown(list(FORMATS), value="png", label="Format of the results")
                start, stop = _buttons("Upscale")
                downloads = gr.File(file_count="multiple", label="Download", interactive=False, visible=False)
            with gr.Column(scale=2):
                shown = gr.Dropdown([], label="Image", visible=False)
                slider = _slider("Left: bicubic interpolation. Right: the result.")
        results = gr.State([])
        shown.input(lambda number, results: results[number].pair, [shown, results], slider, **_AT_ONCE)
        inputs, outputs = [files, name, alpha, form], [slider, shown, downloads, results]
        self._connect(files, start, stop, self._upscale_images, inputs, outputs)

    def _build_choice(self) -> tuple[gr.Radio, gr.Slider]:
        """Build the choice of a generator and of the interpolation, which only "srgan" has."""
        choices = self._choices()
        name = gr.Radio(choices, value=choices[0][1], label="Generator")
        visible, info = choices[0][1] == "srgan", "0: pretrained. 1: srgan. Between: both."
        alpha = gr.Slider(0, 1, 1, step=0.05, label="alpha", info=info, visible=visible)
        name.change(lambda name: gr.update(visible=name == "srgan"), name, alpha, **_AT_ONCE)
        return name, alpha

    def _build_invented(self) -> None:
        gr.Markdown(_INVENTED)
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                file = gr.File(file_types=[*IMAGE_ENDINGS], label="Image", height=180)
                start, stop = _buttons("Show the difference")
                told = gr.Markdown()
            with gr.Column(scale=2):
                slider = _slider(_LEGEND)
        self._connect(file, start, stop, self._show_invented, [file], [slider, told])

    def _build_video(self) -> None:
        endings = [*video_formats.VIDEO_ENDINGS, *video_formats.ANIMATED_ENDINGS]
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                file = gr.File(file_types=endings, label="Video or animated image", height=180)
                name = gr.Radio(self._choices(), value="fast", label="Generator")
                start, stop = _buttons("Upscale")
                download = gr.File(label="Download", interactive=False, visible=False)
            with gr.Column(scale=2):
                player = gr.Video(label="Result", interactive=False, buttons=[], height=640)
        self._connect(file, start, stop, self._upscale_video, [file, name], [player, download])

    def _choices(self) -> list[tuple[str, str]]:
        """Return the label and the name of each generator."""
        own = [(f"{name}: your own", name) for name in self._service.generators if name not in _USES]
        return own + [(f"{name}: {use}", name) for name, use in _USES.items()]

    def _connect(
        self,
        uploads: gr.File,
        start: gr.Button,
        stop: gr.Button,
        handler: Callable[..., Any],
        inputs: list[gr.Component],
        outputs: list[gr.Component],
    ) -> None:
        """Connect the events of a tab. The progress is shown on the first output."""
        uploads.upload(self._receive, uploads, None, **_AT_ONCE)
        asked = start.click(self._ask, None, None, **_AT_ONCE)
        asked.then(_shown(handler), inputs, outputs, show_progress_on=outputs[0], **_COMPUTATION)
        stop.click(self._stop, None, None, **_AT_ONCE)

    def _receive(self, files: list[str] | str, request: gr.Request) -> None:
        self._sessions[request.session_hash].uploads.update([files] if isinstance(files, str) else files)

    def _ask(self, request: gr.Request) -> None:
        self._sessions[request.session_hash].ask()

    def _stop(self, request: gr.Request) -> None:
        self._sessions[request.session_hash].stop()

    def _leave(self, request: gr.Request) -> None:
        self._sessions.end(request.session_hash)

    def _upscale_images(
        self,
        files: list[str] | None,
        name: str,
        alpha: float,
        form: str,
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> tuple[Any, ...]:
        session = self._sessions[request.session_hash]
        results, failures = self._service.upscale_images(session, files or [], name, alpha, form, _teller(progress))
        if not results:
            raise UserError("; ".join(failures))
        for failure in failures:
            gr.Warning(html.escape(failure), duration=None)
        paths = [result.path for result in results]
        names = [(os.path.basename(path), number) for number, path in enumerate(paths)]
        shown = gr.update(choices=names, value=0, visible=len(names) > 1)
        return results[0].pair, shown, gr.update(value=paths, visible=True), results

    def _show_invented(
        self, file: str | None, request: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> tuple[Any, ...]:
        if not file:
            raise UserError("choose an image first")
        session = self._sessions[request.session_hash]
        pair, difference = self._service.show_invented(session, file, _teller(progress))
        return pair, (
            f"The mean difference is **{difference.mean:.1f} of 255 levels**. In **{difference.changed:.0%}** of the "
            f"image it is more than {VISIBLE} levels."
        )

    def _upscale_video(
        self, file: str | None, name: str, request: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> tuple[Any, ...]:
        if not file:
            raise UserError("choose a video first")
        session = self._sessions[request.session_hash]
        path = self._service.upscale_video(session, file, name, _teller(progress))
        return path, gr.update(value=path, visible=True)

    def serve(self, host: str, port: int, max_bytes: int, max_queue: int) -> str:
        """Start to serve the page, in threads of this program.

        Args:
            host: the address to listen at.
            port: the port.
            max_bytes: the size of the largest upload.
            max_queue: the largest number of computations that wait.

        Returns:
            The address of the page.

        Raises:
            UserError: the port cannot be used.
        """
        self.blocks.queue(max_size=max_queue, api_open=False)
        try:
            _, address, _ = self.blocks.launch(
                server_name=host,
                server_port=port,
                max_file_size=max_bytes,
                theme=gr.themes.Default(font="system-ui", font_mono="monospace"),
                css=_STYLE,
                **_CLOSED,
            )
        except OSError as error:
            raise UserError(f"{host}:{port}: cannot be listened at; choose another port or host") from error
        return address


def _buttons(label: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        return gr.Button(label, variant="primary", scale=2, min_width=160), gr.Button("Stop", min_width=80)


def _slider(caption: str) -> gr.ImageSlider:
    slider = gr.ImageSlider(
        type="filepath", interactive=False, show_label=False, buttons=["fullscreen"], max_height=640
    )
    gr.Markdown(f"{caption} {_ZOOM}")
    return slider


def _teller(progress: gr.Progress) -> Tell:
    """Return a function that shows the progress, in whatever thread it is called."""
    context = contextvars.copy_context()
    return lambda part: context.copy().run(progress, part, desc="Upscaling")


def _shown(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler of events: errors are shown on the page in one line, and a stop leaves the page as it is."""

    @functools.wraps(handler)
    def wrapped(*args: Any) -> Any:
        try:
            return handler(*args)
        except StopRequest:
            return gr.skip()
        except UserError as error:
            message = str(error)
        except Exception as error:
            message = fault(error)
        raise gr.Error(html.escape(message), print_exception=False)

    return wrapped
