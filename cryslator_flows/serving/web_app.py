"""The pages and files of a server, all of them read-only."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from cryslator_flows.errors import CryslatorError, one_line, without_passwords
from cryslator_flows.report.page.whole_page import BESIDE, script_hash
from cryslator_flows.serving.candidate_search import CandidateQuery
from cryslator_flows.serving.live_campaigns import SCRIPT, Catalog, state_of
from cryslator_flows.system.look import style_sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from cryslator_flows.serving.campaign_sources import CampaignSource
    from cryslator_flows.serving.live_campaigns import LiveCampaign, LiveStatus

MOST_FOUND = 200


def make_app(source: CampaignSource, hosts: Sequence[str] = ("*",)) -> Starlette:
    """Make the web application that serves the campaigns of a place.

    Starlette runs the functions below in worker threads, so that it answers while a page is drawn.

    Parameters
    ----------
    source : CampaignSource
        The place.
    hosts : sequence of str
        Names of this machine that a browser may use; ``*`` for any.
    """
    catalog = Catalog(source)

    def find(request: Request) -> tuple[LiveCampaign, LiveStatus]:
        try:
            return catalog.look()[request.path_params["key"]]
        except KeyError:
            raise HTTPException(404, "There is no such campaign.") from None

    def campaigns(request: Request) -> Response:
        query = request.query_params.get("q", "").strip()
        looked = catalog.look()
        rows = [(key, seen, campaign.listing) for key, (campaign, seen) in looked.items()]
        read = [(key, seen.label, listing.rows) for key, seen, listing in rows if listing]
        found = []
        if query:
            wanted = CandidateQuery(query)
            found = [(key, label, row) for key, label, listed in read for row in wanted.find(listed)]
            found.sort(key=lambda item: (not item[2].relaxed, item[2].energy))
        page = _render(
            state=_list_state(looked),
            title="Campaigns",
            home="./",
            progress=source.place,
            rows=rows,
            query=query,
            found=found[:MOST_FOUND],
            number=len(found),
            searched=sum(len(listed) for *_, listed in read),
            unread=len([seen for _, seen, listing in rows if listing is None and not seen.error]),
        )
        catalog.start_reading()
        return HTMLResponse(page)

    def list_state(_: Request) -> Response:
        looked = catalog.look()
        catalog.start_reading()
        return JSONResponse({"state": _list_state(looked), "progress": source.place})

    def page(request: Request) -> Response:
        campaign, seen = find(request)
        state = campaign.shown_state(seen)
        headers = {"ETag": f'"{state}"', "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        try:
            if seen.error:
                raise CryslatorError(seen.error)
            state, html = catalog.page(campaign, seen)
        # Whatever is wrong with one campaign, its page says it, and appears when it is repaired.
        except Exception as error:
            words = without_passwords(one_line(error))
            message = _render(state=state, title=seen.label, home="../../", progress=seen.progress, error=words)
            return HTMLResponse(message, 503)
        return HTMLResponse(html, headers={**headers, "ETag": f'"{state}"'})

    def state(request: Request) -> Response:
        campaign, seen = find(request)
        return JSONResponse({"state": campaign.shown_state(seen), "progress": seen.progress})

    def file(request: Request) -> Response:
        _, seen = find(request)
        name = request.path_params["path"]
        # Not the folders of jobs, which may hold licensed potentials, and not what a link leads to elsewhere.
        structures = (f"relaxed/{path.name}" for path in (seen.folder / "relaxed").glob("*.cif"))
        path = seen.folder / name if name in (*BESIDE, *structures) else None
        if seen.error or path is None or not path.resolve().is_relative_to(seen.folder.resolve()):
            raise HTTPException(404, "There is no such file.")
        if not path.is_file():
            raise HTTPException(404, "There is no such file; cryslator report writes the files beside the page.")
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    def failed(request: Request, error: Exception) -> Response:
        if request.url.path.endswith("/state"):
            return JSONResponse({"state": None, "progress": str(error)}, 503)
        message = _render(state="", title="Campaigns", home="/", progress=source.place, error=str(error))
        return HTMLResponse(message, 503)

    return Starlette(
        routes=[
            Route("/", campaigns),
            Route("/state", list_state),
            Route("/campaigns/{key}/", page),
            Route("/campaigns/{key}/state", state),
            Route("/campaigns/{key}/{path:path}", file),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={CryslatorError: failed},
    )


def _list_state(looked: dict[str, tuple[LiveCampaign, LiveStatus]]) -> str:
    """Return a text that is another after each change of the list."""
    shown = [
        (seen.label, seen.progress, seen.error, campaign.listing and campaign.listing.state)
        for campaign, seen in looked.values()
    ]
    return state_of(shown)


def _render(**content: Any) -> str:
    """Render the list of campaigns, or a page with a message."""
    return (
        _environment()
        .get_template("campaigns.html.j2")
        .render(script=SCRIPT, script_hash=script_hash(SCRIPT), style_sheet=style_sheet(), **content)
    )


@cache
def _environment() -> Environment:
    packages = "cryslator_flows.serving", "cryslator_flows.report.page"
    return Environment(loader=ChoiceLoader([PackageLoader(name, ".") for name in packages]), autoescape=True)
