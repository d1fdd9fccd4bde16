import httpx
from typing import Optional

class ChatAPIClient:
    def __init__(self, master_key: str, base_url: str = "http://localhost:8000/api/v1"):
        self.master_key = master_key
        self.base_url = base_url

    async def create_user(self, user_data: dict) -> dict:
        """Create a new user (admin operation)"""
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/users",
                headers={"Authorization": f"Bearer {self.master_key}"},
                json=user_data
            )
            return response.json()

    async def login_user(self, email: str) -> dict:
        """Login user and get fresh scoped key"""
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/users/login",
                headers={"Authorization": f"Bearer {self.master_key}"},
                json={"email": email}
            )
            return response.json()

    async def send_message(self, user_key: str, message_data: dict) -> dict:
        """Send message using user's scoped key"""
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/messages",
                headers={"Authorization": f"Bearer {user_key}"},
                json=message_data
            )
            return response.json()
