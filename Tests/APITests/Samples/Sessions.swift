// See Samples.swift.
import HTTP
import Postgres
import TestSupport
import Testing

extension Sample {
    /// Accounts and their sessions below /api/v1.
    static let sessions = Sample(
        bodies: [
            "POST /api/v1/auth/register": { _ in
                let email = TestCloud.newEmail()
                return [
                    "username": .string(String(email.prefix(20))), "email": .string(email), "password": "correct horse",
                    "full_name": "Someone",
                ]
            },
            "POST /api/v1/auth/login": { ["username": .string($0.email), "password": .string($0.password)] },
            "POST /api/v1/auth/refresh": { owner in
                let answer = try TestCloud().call(
                    .post, "/api/v1/auth/login", json: ["email": .string(owner.email), "password": .string(owner.password)])
                return ["refresh_token": try #require(answer["refresh_token"], "\(answer)"), "rotate": true]
            },
            "POST /api/v1/auth/change-password": { owner in
                let password = JSON.string(owner.password)
                return ["current_password": password, "new_password": password, "new_password_confirm": password]
            },
            "PUT /api/v1/auth/me": profile,
            "PUT /api/v1/profile": profile,
        ],
        statuses: ["POST /api/v1/auth/register": 201],
        objects: [
            "/api/v1/auth/sessions": { _, owner, cloud in
                _ = cloud.call(.post, "/api/v1/auth/login", json: ["email": .string(owner.email), "password": .string(owner.password)])
                let newest = try cloud.admin("select id::text from sessions where owner_id = \(owner.id)::uuid order by id desc")
                return newest.scalar(String.self)
            }
        ])

    private static let profile: Body = { owner in
        [
            "username": .string(String(TestCloud.newEmail().prefix(20))), "email": .string(owner.email), "full_name": "Someone Else",
            "current_password": .string(owner.password),
        ]
    }
}
