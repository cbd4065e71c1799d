"""An ordinary FastAPI app with sessions and a dependency for the user: nothing of ours, nothing of OpenTelemetry."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.middleware.sessions import SessionMiddleware

app = FastAPI()
app.add_middleware(SessionMiddleware, secret_key="not a secret")
accounts = {}


@dataclass
class Account:
    id: int
    name: str
    email: str
    role: str


def get_current_user(request: Request) -> Account:
    account = accounts.get(request.session.get("account"))
    if account is None:
        raise HTTPException(401)
    return account


User = Annotated[Account, Depends(get_current_user)]
Name = Annotated[str, Form()]


@app.get("/")
async def index():
    return "welcome"


@app.post("/signup")
async def signup(request: Request, name: Name):
    number = len(accounts) + 1
    accounts[number] = Account(number, name, f"{name}@example.com", "owner" if number == 1 else "member")
    request.session["account"] = number
    return "welcome"


@app.post("/login")
def login(request: Request, name: Name):
    found = next((account for account in accounts.values() if account.name == name), None)
    if found is None:
        raise HTTPException(403)
    request.session["account"] = found.id
    return "welcome back"


@app.post("/logout")
async def logout(request: Request):
    request.session.clear()
    return "bye"


@app.get("/me")
async def me(user: User):
    return {"name": user.name}


@app.get("/fail")
def fail(user: User):
    raise ValueError("no stock left")


@app.exception_handler(ValueError)
async def sorry(request: Request, error: ValueError):
    return JSONResponse("sorry", status_code=500)
