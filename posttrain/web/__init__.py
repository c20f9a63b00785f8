"""The labelling application: pages and a REST API over the feedback store. `create_app(store)` is all of it.

    uvicorn.run(create_app(Store.open("sqlite:///feedback.db")))      # posttrain label does this

app.py puts it together; guard.py says who may come in; work.py, pages.py and lead.py are the pages; api.py and
api_lead.py the same over JSON. Left out on purpose: torch, model names (none is sent to anybody who labels), a build
step, anything loaded from another host.
"""

from posttrain.web.app import create_app

__all__ = ["create_app"]
