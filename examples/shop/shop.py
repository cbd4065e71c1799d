"""A small shop: Flask, SQLAlchemy, the standard logging module, and a login. It knows nothing of telemetry."""

from __future__ import annotations

import logging
import os
import secrets
from datetime import datetime, timezone

from flask import Flask, Response, abort, g, redirect, render_template, request, session, url_for
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import StaticPool
from werkzeug.security import check_password_hash, generate_password_hash

log = logging.getLogger("shop")


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[float]
    stock: Mapped[int]


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]
    plan: Mapped[str]
    company: Mapped[str]
    signed_up_at: Mapped[datetime]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    sku: Mapped[str] = mapped_column(ForeignKey("products.sku"))
    total: Mapped[float]
    product: Mapped[Product] = relationship()


CATALOGUE = [
    ("mug", "Enamel mug", 14.5, 40),
    ("tent", "Two-person tent", 219.0, 3),
    ("stove", "Alcohol stove", 38.0, 12),
]


class OutOfStock(Exception):
    """The customer asked for more than we have."""


def create_app() -> Flask:
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s %(message)s")
    log.setLevel(logging.INFO)
    app = Flask(__name__)
    app.secret_key = os.environ.get("SHOP_SECRET", "only-for-the-example")
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as db:
        db.add_all(Product(sku=sku, name=name, price=price, stock=stock) for sku, name, price, stock in CATALOGUE)
        db.commit()

    @app.before_request
    def load() -> None:
        g.db = Session(engine)
        g.user = g.db.get(User, session["user_id"]) if "user_id" in session else None
        g.visitor = session.setdefault("visitor", secrets.token_hex(8))

    @app.after_request
    def access_log(response: Response) -> Response:
        who = {"user_id": g.user.id} if g.user else {}
        log.info("%s %s", request.method, request.path, extra={"visitor": g.visitor, **who})
        return response

    @app.teardown_request
    def unload(_error: BaseException | None) -> None:
        if "db" in g:
            g.db.close()

    @app.get("/")
    def home() -> str:
        return render_template("home.html", products=g.db.scalars(select(Product)).all())

    @app.get("/products/<sku>")
    def product(sku: str) -> str:
        found = g.db.get(Product, sku) or abort(404)
        return render_template("product.html", product=found)

    @app.route("/signup", methods=["GET", "POST"])
    def signup() -> object:
        if request.method == "GET":
            return render_template("account.html", action="signup")
        user = User(
            email=request.form["email"],
            password=generate_password_hash(request.form["password"]),
            plan=request.form.get("plan", "free"),
            company=request.form["company"],
            signed_up_at=datetime.now(timezone.utc),
        )
        g.db.add(user)
        g.db.commit()
        session["user_id"] = user.id
        g.user = user
        log.info(
            "user signed up",
            extra={
                "user_id": user.id,
                "visitor": g.visitor,
                "plan": user.plan,
                "company": user.company,
                "signed_up_at": user.signed_up_at.isoformat(),
            },
        )
        return redirect(url_for("home"))

    @app.route("/login", methods=["GET", "POST"])
    def login() -> object:
        if request.method == "GET":
            return render_template("account.html", action="login")
        user = g.db.scalar(select(User).where(User.email == request.form["email"]))
        if user is None or not check_password_hash(user.password, request.form["password"]):
            log.warning("sign-in failed", extra={"visitor": g.visitor})
            abort(401)
        session["user_id"] = user.id
        g.user = user
        log.info("user signed in", extra={"user_id": user.id, "visitor": g.visitor, "plan": user.plan})
        return redirect(url_for("home"))

    @app.post("/logout")
    def logout() -> object:
        session.clear()
        return redirect(url_for("home"))

    @app.post("/checkout")
    def checkout() -> object:
        if g.user is None:
            abort(401)
        found = g.db.get(Product, request.form["sku"]) or abort(404)
        quantity = int(request.form.get("quantity", 1))
        reserve(found, quantity)
        order = Order(user_id=g.user.id, sku=found.sku, total=found.price * quantity)
        g.db.add(order)
        g.db.commit()
        log.info(
            "order paid",
            extra={
                "user_id": g.user.id,
                "company": g.user.company,
                "order_id": order.id,
                "sku": found.sku,
                "quantity": quantity,
                "total": order.total,
                "currency": "EUR",
            },
        )
        return render_template("paid.html", order=order)

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    return app


def reserve(product: Product, quantity: int) -> None:
    """Takes `quantity` pieces out of the stock."""
    if quantity > product.stock:
        raise OutOfStock(f"{quantity} × {product.sku} ordered, {product.stock} left")
    product.stock -= quantity
