"""Clients over requests, as people write them without knowing this system."""

import threading

import requests

DIALECTS = {
    "v1": {"login": "/api/v1/auth/login", "refresh": "/api/v1/auth/refresh", "access": "access_token"},
    "lexik": {"login": "/api/auth", "refresh": "/api/token/refresh", "access": "token"},
}


class SignedOut(Exception):
    """The user must log in again."""


class Naive:
    """Every call that gets a 401 makes its own refresh."""

    def __init__(self, url, dialect):
        self.url = url
        self.dialect = dialect
        self.access_token = None
        self.refresh_token = None

    def login(self, email, password):
        answer = requests.post(self.url + self.dialect["login"], json={"email": email, "password": password})
        answer.raise_for_status()
        self.keep(answer.json())

    def me(self):
        """Returns the user. After a 401 it refreshes and repeats the call."""
        used = self.access_token
        answer = self.get_me()
        if answer.status_code == 401:
            self.refresh(used)
            answer = self.get_me()
        answer.raise_for_status()
        return answer.json()

    def get_me(self):
        return requests.get(self.url + "/api/v1/users/me", headers={"Authorization": f"Bearer {self.access_token}"})

    def refresh(self, used):
        """Gets new tokens, because the server has refused the access token `used`."""
        answer = requests.post(self.url + self.dialect["refresh"], json={"refresh_token": self.refresh_token})
        if answer.status_code in (400, 401):
            raise SignedOut(answer.text)
        answer.raise_for_status()
        self.keep(answer.json())

    def keep(self, tokens):
        self.access_token = tokens[self.dialect["access"]]
        self.refresh_token = tokens["refresh_token"]


class Locked(Naive):
    """One thread refreshes, and the threads that waited for it use the new tokens."""

    def __init__(self, url, dialect):
        super().__init__(url, dialect)
        self.lock = threading.Lock()

    def refresh(self, used):
        with self.lock:
            if self.access_token == used:
                super().refresh(used)
