"""GalleryServer: a page on this machine with all mails, in every locale, light and dark, wide and narrow."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from skycap.context import Attachment
from skycap.errors import ConfigurationError, SkycapError
from skycap.preview.files import named
from skycap.preview.gallery_page import Choice, Shown, page, problem_page
from skycap.preview.previews import Preview, Previews
from skycap.preview.shades import SHADES, in_shade
from skycap.registry import Registry
from skycap.sample import Sample
from skycap.settings import Settings
from skycap.settings.addresses import BindAddress

# A mail may show pictures; what else it holds must not act, least of all one that was written by somebody else.
_MAIL_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data: https:; form-action 'none'"
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-src 'self'"


class GalleryServer:
    """``async with GalleryServer(…) as gallery``. Each load of its page renders the mails with the templates anew."""

    def __init__(self, settings: Settings, registry: Registry, address: BindAddress) -> None:
        self._settings = settings
        self._registry = registry
        self._address = address
        self._rendered: dict[str, Preview] = {}
        """As they were when a page last showed them."""
        application = web.Application()
        application.router.add_get("/", self._page)
        application.router.add_get("/mail/{name}/{file}", self._file)
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=1)
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            if self._address.path is not None:
                await web.UnixSite(self._runner, str(self._address.path)).start()
            else:
                await web.TCPSite(self._runner, self._address.host, self._address.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(f"cannot listen on {self._address}: {error.strerror}; choose another") from error
        self.url = self._url()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def _url(self) -> str:
        if self._address.path is not None:
            return str(self._address)
        host, port = self._runner.addresses[0][:2]
        return f"http://{replace(self._address, host=host, port=port)}/"

    async def _page(self, request: web.Request) -> web.Response:
        choice = Choice(kind=request.query.get("kind") or None, locale=request.query.get("locale") or None)
        try:
            previews = Previews(self._settings, self._registry)
        except SkycapError as error:
            return _html(problem_page(str(error)), _PAGE_POLICY, status=500)
        samples = [sample for sample in previews.samples if choice.kind in {None, sample.kind}]
        shown = [each for sample in samples for each in await _shown(previews, sample, choice)]
        self._rendered |= {each.name: each.preview for each in shown if each.preview is not None}
        return _html(
            page(
                shown,
                brand=self._settings.brand.name,
                choice=choice,
                kinds=dict.fromkeys(sample.kind for sample in previews.samples),
                locales=previews.locales,
            ),
            _PAGE_POLICY,
        )

    async def _file(self, request: web.Request) -> web.Response:
        preview = self._rendered.get(request.match_info["name"])
        if preview is None:
            raise web.HTTPNotFound(text="The page that shows this mail was not loaded: load it anew.")
        file = request.match_info["file"]
        for shade in SHADES:
            if file == f"{shade}.html":
                return _html(in_shade(preview.page, shade), _MAIL_POLICY)
        attachment = next((each for each in _files(preview) if each.filename == file), None)
        if attachment is None:
            raise web.HTTPNotFound(text=f"The mail has no {file}.")
        headers = {"Content-Type": attachment.media_type, "Cache-Control": "no-store"}
        return web.Response(body=attachment.content, headers={**headers, "Content-Security-Policy": "sandbox"})


async def _shown(previews: Previews, sample: Sample, choice: Choice) -> list[Shown]:
    """The mails of a sample; one that cannot be rendered is no reason not to show the others."""
    try:
        if choice.locale in previews.locales:
            found = await previews.of(sample, locale=choice.locale)
        else:
            found = await previews.every_locale(sample)
    except SkycapError as error:
        return [Shown(name=f"{sample.kind}.{sample.name}", problem=str(error))]
    return [Shown(name=name, preview=preview) for name, preview in named(found).items()]


def _files(preview: Preview) -> list[Attachment]:
    plain = "text/plain; charset=utf-8"
    return [
        Attachment(filename="mail.txt", content=preview.text.encode(), media_type=plain),
        Attachment(filename="mail.eml", content=preview.message, media_type=plain),
        *preview.attachments,
    ]


def _html(text: str, policy: str, *, status: int = 200) -> web.Response:
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return web.Response(text=text, content_type="text/html", headers=headers, status=status)
