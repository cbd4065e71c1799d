"""An ordinary app of FastAPI in which an ordinary Django project is mounted: nothing of ours or OpenTelemetry's."""

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application
from fastapi import FastAPI

app = FastAPI()


@app.get("/prices")
async def prices():
    return {"basic": 12}


app.mount("/", WSGIMiddleware(get_wsgi_application()))
