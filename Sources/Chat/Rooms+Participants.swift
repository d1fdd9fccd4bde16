// /api/v1/rooms/join, leave and participants: who is in a room. A user joins any room of its client, and acts for itself only;
// the master key acts for the user that `user_id` names. Table: participants.
import API
import HTTP
import Identity
import Postgres

enum Seats {
    static let routes: [Route] = [
        .action("/api/v1/rooms/join", .permission(.roomJoin), input: .json, join),
        .action("/api/v1/rooms/leave", .permission(.roomJoin), input: .json, leave),
        .action("/api/v1/rooms/:id/join", .permission(.roomJoin), join),
        .action("/api/v1/rooms/:id/leave", .permission(.roomJoin), leave),
        .get("/api/v1/rooms/:id/participants", .permission(.roomRead), participants),
    ]

    /// Who, where.
    private struct Seat {
        let room: ID
        let member: ID
        /// What a room is answered with that the client does not have.
        let unknownRoom: APIError

        init(_ context: Context) throws {
            var body = try context.fields()
            let memberID = try context.principal.memberID
            let isNamedByPath = context.parameters["id"] != nil
            let room = isNamedByPath ? nil : body.required("room_id", .id)
            let member = memberID ?? body.required("user_id", .id)
            guard let member, body.problems == nil else { throw body.refusal }
            self.member = member
            self.room = try room ?? context.id()
            unknownRoom = isNamedByPath ? .notFound : .invalid("room_id", Rule<ID>.id.requirement)
        }

        var event: JSON { ["room_id": .string(room.description), "user_id": .string(member.description)] }
    }

    /// Joining twice is no mistake, and no second event.
    private static func join(_ context: Context) throws -> Response {
        let seat = try Seat(context)
        let inserted = try context.query(
            "insert into participants (room_id, member_id) values (\(seat.room), \(seat.member)) on conflict do nothing",
            refusals: [
                "participants_room": seat.unknownRoom, "participants_member": .invalid("user_id", Rule<ID>.id.requirement),
            ])
        if inserted.affected == 1 {
            try context.record("room.joined", seat.room, ["user_id": .string(seat.member.description)])
            try context.emit("participant.joined", seat.room, seat.event)
        }
        return .message("Joined the room")
    }

    private static func leave(_ context: Context) throws -> Response {
        let seat = try Seat(context)
        let removed = try context.query("delete from participants where room_id = \(seat.room) and member_id = \(seat.member)")
        guard removed.affected == 1 else {
            guard try !context.query("select 1 from rooms where id = \(seat.room)").isEmpty else { throw seat.unknownRoom }
            guard try !context.query("select 1 from members where id = \(seat.member)").isEmpty else {
                throw APIError.invalid("user_id", Rule<ID>.id.requirement)
            }
            throw APIError.conflict("The user is not in this room")
        }
        try context.record("room.left", seat.room, ["user_id": .string(seat.member.description)])
        try context.emit("participant.left", seat.room, seat.event)
        return .message("Left the room")
    }

    private static func participants(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let room = try context.id()
        let rows = try context.query(
            """
            select id, username, full_name, joined_at from (
                select p.member_id as id, m.username, m.full_name, p.joined_at from participants p join members m on m.id = p.member_id
                where p.room_id = \(room) and (current_member() is null or joined(p.room_id))) seats
            where \(page.window)
            """)
        if rows.isEmpty {
            let isSeen = try context.query("select 1 from rooms where id = \(room) and (current_member() is null or joined(id))")
            guard !isSeen.isEmpty else { throw APIError.notFound }
        }
        return .json(
            page.envelope(rows) { row, out in
                var row = row
                out.id("user_id", &row)
                out.text("username", &row)
                out.text("full_name", &row)
                out.time("joined_at", &row)
            })
    }
}
