"""The one router: each more that lies in another costs every request."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _Route(APIRoute):
    """A route that reads a body without parameters beside it by itself: what FastAPI does for all
    kinds of parameters takes as long as all the rest of a search."""

    def get_route_handler(self) -> Handler:
        """The handler of a request; raises what FastAPI's own one does."""
        if self.methods != {"POST"} or self.dependant.path_params:
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
