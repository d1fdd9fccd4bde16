# A client by the documentation of access and refresh tokens: register, log in with a form, refresh again and again with the one token.
import requests

from visitor import URL, fresh, with_address

requests.Session.request = with_address(requests.Session.request)
username, password = fresh(), "password123"
account = {"email": f"{username}@example.com", "username": username, "password": password, "password_confirm": password}
made = requests.post(f"{URL}/api/v1/auth/register", json={**account, "full_name": "Full Name"})
assert made.status_code == 201, made.text
body = made.json()
assert body["user"]["full_name"] == "Full Name" and body["token_type"] == "bearer", body
assert body["access_token"] and body["refresh_token"], body

login = requests.post(f"{URL}/api/v1/auth/login", data={"username": username, "password": password})
assert login.status_code == 200 and login.json()["token_type"] == "bearer", login.text
refresh_token, access_token = login.json()["refresh_token"], login.json()["access_token"]


def me(token):
    return requests.get(f"{URL}/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})


assert me(access_token).json()["username"] == username
for _ in range(3):
    refreshed = requests.post(f"{URL}/api/v1/auth/refresh", json={"refresh_token": refresh_token})
    assert refreshed.status_code == 200 and refreshed.json()["token_type"] == "bearer", refreshed.text
    assert me(refreshed.json()["access_token"]).status_code == 200
assert me(access_token).status_code == 200
assert me(refresh_token).status_code == 401
assert requests.post(f"{URL}/api/v1/auth/refresh", json={"refresh_token": access_token}).status_code == 401
