// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    /// Clients of the chat and their users.
    static let clients = Sample(
        bodies: [
            "POST /api/v1/clients": always(client),
            "PUT /api/v1/clients/me": always(client),
            "POST /api/v1/clients/me/rotate": always(["grace_seconds": 60]),
            "POST /api/v1/users": user,
            "PUT /api/v1/users/:id": user,
            "POST /api/v1/users/login": { ["email": .string(try TestCloud().newMember(of: $0).email)] },
            "PUT /api/v1/users/profile": always(["username": "john_doe", "full_name": "John Doe"]),
        ],
        statuses: ["POST /api/v1/clients": 201, "POST /api/v1/users": 201],
        objects: ["/api/v1/users": { _, owner, cloud in try cloud.newMember(of: owner).memberID }])

    private static let client: JSON = ["name": "My Chat App", "description": "Customer support chat system"]
    private static let user: Body = { _ in ["email": .string(TestCloud.newEmail()), "username": "john_doe", "full_name": "John Doe"] }
}
