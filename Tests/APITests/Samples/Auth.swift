// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let auth = Sample(
        bodies: [
            "POST /auth/register": { _ in ["email": .string(TestCloud.newEmail()), "password": "correct horse", "name": "Someone"] },
            "POST /auth/login": { ["email": .string($0.email), "password": .string($0.password)] },
            "POST /auth/forgot-password": { ["email": .string($0.email)] },
            "POST /auth/reset-password": always(["token": "reset_unknown", "new_password": "correct horse"]),
            "POST /auth/keys": always(["name": "further", "permissions": ["instance:read"]]),
            "POST /auth/keys/:id/rotate": always(["grace_seconds": 60]),
            "POST /auth/keys/:id/regenerate": always(["grace_seconds": 60]),
            "PUT /auth/users/:id/role": always(["role": "viewer"]),
        ],
        // There is no such token.
        statuses: ["POST /auth/register": 201, "POST /auth/keys": 201, "POST /auth/reset-password": 400],
        objects: [
            "/auth/keys": { _, owner, cloud in try cloud.newKey(of: owner).id },
            "/auth/users": { _, _, _ in nil },
        ])
}
