# The same list with FastAPI and asyncpg (Debian: python3-fastapi python3-uvicorn python3-asyncpg).
import hashlib
import os

import asyncpg
from fastapi import FastAPI, Header, HTTPException

pool = None
app = FastAPI()


WHO = "select u.id, u.role, k.id from api_keys k join users u on u.id = k.owner_id where k.key_hash = $1 and k.revoked_at is null"
LIST = "select id, name, image, status, instance_type, ports, created_at from instances where owner_id = $1 order by id desc limit 51"


@app.on_event("startup")
async def connect():
    global pool
    pool = await asyncpg.create_pool(os.environ["PEER_DATABASE"], min_size=4, max_size=4)


@app.get("/{anything}")
async def instances(x_api_key: str = Header("")):
    async with pool.acquire() as database:
        who = await database.fetchrow(WHO, hashlib.sha256(x_api_key.encode()).digest())
        if who is None:
            raise HTTPException(401)
        return {"data": [dict(row) for row in await database.fetch(LIST, who[0])]}
