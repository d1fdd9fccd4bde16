// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let rooms = Sample(
        bodies: [
            "POST /api/v1/rooms": always(["name": "General", "description": "All and sundry"]),
            "PUT /api/v1/rooms/:id": always(["name": "General", "description": "All and sundry"]),
            "POST /api/v1/rooms/join": { ["room_id": .string(try TestCloud().newRoom(of: $0))] },
            "POST /api/v1/rooms/leave": { ["room_id": .string(try TestCloud().newRoom(of: $0, joinedBy: [$0]))] },
            "POST /api/v1/rooms/:id/join": { _ in nil },
            "POST /api/v1/rooms/:id/leave": { _ in nil },
        ],
        statuses: ["POST /api/v1/rooms": 201],
        objects: ["/api/v1/rooms": { _, owner, cloud in try cloud.newRoom(of: owner, joinedBy: [owner]) }],
        references: [
            "POST /api/v1/rooms/join": { [("room_id", ["room_id": .string($0)])] },
            "POST /api/v1/rooms/leave": { [("room_id", ["room_id": .string($0)])] },
        ])
}
