"""The one router: each more that lies in another costs every request; and a way past it."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _Route(APIRoute):
    """A route that reads a body without parameters beside it by itself: what FastAPI does for all
    kinds of parameters takes as long as all the rest of a search."""

    @property
    def reads_body_alone(self) -> bool:
        """Whether nothing but the body is a parameter."""
        return self.methods == {"POST"} and not self.dependant.path_params

    def get_route_handler(self) -> Handler:
        """The handler of a request; raises what FastAPI's own one does."""
        if not self.reads_body_alone:
            return super().get_route_handler()
        ((name, model),) = (
            (param.name, param.field_info.annotation) for param in self.dependant.body_params
        )
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        request_name = self.dependant.request_param_name
        assert request_name is not None
        endpoint = self.dependant.call
        assert endpoint is not None

        async def handle(request: Request) -> Response:
            given = {name: _validated(model, _parsed(await request.body(), request))}
            answer: Response = await endpoint(**given, **{request_name: request})
            return answer

        return handle


def _parsed(body: bytes, request: Request) -> Any:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        # The handler of these errors says what is wrong.
        raise RequestValidationError([])
    if not body:
        raise RequestValidationError(
            [{"type": "missing", "loc": ("body",), "msg": "", "input": None}]
        )
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        mistake = {"type": "json_invalid", "loc": ("body", error.pos), "ctx": {"error": error.msg}}
        raise RequestValidationError([{**mistake, "msg": "", "input": None}]) from None
    except (ValueError, RecursionError):  # not UTF-8, a number without end, too deep
        raise HTTPException(400) from None


def _validated(model: type[BaseModel], content: Any) -> BaseModel:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        mistakes = [
            {**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)
        ]
        raise RequestValidationError(mistakes) from None


router = APIRouter(route_class=_Route, generate_unique_id_function=lambda route: route.name)


class Direct:
    """Hands a request whose path has no parameters to its route: the search for a route, and the
    stacks around it, which nothing uses here, take as long as a search is compiled in."""

    def __init__(self, app: ASGIApp, handlers: Mapping[type[Exception], ExceptionHandler]) -> None:
        self.app = app
        self.handlers = handlers
        self.routes = {
            route.path: (route, route.get_route_handler())
            for route in router.routes
            if isinstance(route, _Route) and route.reads_body_alone
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        found = None
        if scope["type"] == "http" and scope["method"] == "POST":
            found = self.routes.get(scope["path"])
        if found is None:
            await self.app(scope, receive, send)
            return
        route, handle = found
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            answer = await handle(request)
        except Exception as error:
            handler = next(
                (self.handlers[kind] for kind in type(error).__mro__ if kind in self.handlers), None
            )
            if handler is None:
                raise
            answer = await handler(request, error)  # type: ignore[misc,arg-type]
        await answer(scope, receive, send)
