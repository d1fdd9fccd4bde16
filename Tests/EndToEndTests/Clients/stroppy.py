# The documented Python client of sessions and runs: log in, work with runs, log out.
import requests

from stroppy_api import StroppyAPI
from visitor import URL, fresh, with_address

requests.Session.request = with_address(requests.Session.request)
username, password = fresh(), "securepassword123"
account = {"username": username, "email": f"{username}@example.com", "password": password}
made = requests.post(f"{URL}/api/v1/auth/register", json=account)
assert made.status_code == 201 and made.json()["token"], made.text

api = StroppyAPI(URL)
try:
    api.make_request("/api/v1/runs")
    raise AssertionError("a request without a token went out")
except Exception as refusal:
    assert str(refusal) == "Not authenticated", refusal
login = api.login(username, password)
assert login["user"]["username"] == username and login["token"] == api.token, login

assert api.make_request("/api/v1/runs").json() == {"runs": [], "total": 0, "page": 1, "limit": 20}
created = api.make_request("/api/v1/runs", "POST", json={"name": "Run", "config": {"scale": 10}})
assert created.status_code == 201, created.text
path = f"/api/v1/runs/{created.json()['id']}"
moved = api.make_request(f"{path}/status", "PUT", json={"status": "running"}, headers={"X-Request-ID": "python"})
assert moved.status_code == 200 and moved.headers["X-Request-ID"] == "python", moved.text
tps = {"max": 1500.5, "min": 10, "average": 700, "95p": 1400, "99p": 1490}
assert api.make_request(f"{path}/tps", "PUT", json=tps).json()["tps"] == tps
ended = api.make_request(f"{path}/status", "PUT", json={"status": "failed", "result": "no"}).json()
assert (ended["status"], ended["result"]) == ("failed", "no"), ended
found = api.make_request("/api/v1/runs", params={"status": "failed", "search": "run"}).json()
assert found == {"runs": [ended], "total": 1, "page": 1, "limit": 20}, found

changed = api.make_request(
    "/api/v1/auth/change-password", "POST", json={"current_password": password, "new_password": "another horse"}
)
assert changed.status_code == 200, changed.text
assert api.make_request("/api/v1/profile").json()["username"] == username
assert api.make_request("/api/v1/auth/logout", "POST").status_code == 200
refused = api.make_request("/api/v1/runs")
documented = {"error": "unauthorized", "message": "Invalid or expired token", "code": 401}
assert refused.status_code == 401 and documented.items() <= refused.json().items(), refused.text
