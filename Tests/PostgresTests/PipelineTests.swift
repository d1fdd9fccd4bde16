// The connection on a real server: what comes back as it went in, what one error undoes, and what is left of a connection after trouble.
import HTTP
import Postgres
import System
import TestSupport
import Testing

struct ValueTests {
    let connection: Connection

    init() throws { connection = Connection(url: try TestDatabase.shared().api) }

    private static let nasty = [
        "", " ", "'", "\"", "\\", "{}", "{a,b}", "NULL", "null", ",", "\n\r\t", "$1", "--", "/*", "é😀\u{FFFF}", "\\x00", "a\u{1}b", "%s",
        "'; drop table users; --",
    ]

    @Test func textsComeBackAsTheyWent() throws {
        for text in Self.nasty + [String(repeating: "x", count: 200_000)] {
            #expect(try connection.begin().commit("select \(text)::text").scalar(String.self) == text)
        }
    }

    @Test func arraysComeBackAsTheyWent() throws {
        for items in [[], [""], Self.nasty, ["NULL"], ["{}"]] {
            let row = try connection.begin().commit("select \(items)::text[], cardinality(\(items)::text[])")[0]
            var next = row
            #expect(next.next([String].self) == items)
            #expect(next.next(Int.self) == items.count)
        }
        let numbers = [0, -1, .max, .min]
        #expect(try connection.begin().commit("select \(numbers)::bigint[]").scalar([Int].self) == numbers)
        #expect(try connection.begin().commit("select \([Int]())::int[]").scalar([Int].self) == [])
    }

    @Test func bytesComeBackAsTheyWent() throws {
        for bytes in [[], [0], Array(0...255), Array("\\x00'".utf8)] as [[UInt8]] {
            var row = try connection.begin().commit("select \(bytes)::bytea, length(\(bytes)::bytea)")[0]
            #expect(row.next([UInt8].self) == bytes)
            #expect(row.next(Int.self) == bytes.count)
        }
    }

    @Test func nullsOfEveryKind() throws {
        let (text, number, bytes, list): (String?, Int?, [UInt8]?, [String]?) = (nil, nil, nil, nil)
        var row = try connection.begin().commit("select \(text)::text, \(number)::int, \(bytes)::bytea, \(list)::text[], null, 1")[0]
        #expect(row.next(String?.self) == nil && row.next(Int?.self) == nil && row.next([UInt8]?.self) == nil)
        #expect(row.next([String]?.self) == nil && row.next(ID?.self) == nil && row.next(Int?.self) == 1)
    }

    @Test func theOtherKinds() throws {
        let (id, time) = (ID(at: .now()), try #require(Timestamp(rfc3339: "1999-12-31T23:59:59.123456+01:00")))
        var row = try connection.begin().commit(
            """
            select \(id)::uuid, \(time)::timestamptz, \(true)::boolean, \(false)::boolean, \(Int.min)::bigint, 7::smallint, -7::int,
            \(0.1)::float8, \(JSON.object([.init("a", "'\"")]))::jsonb::text, \(time)::timestamptz::text
            """)[0]
        #expect(row.next(ID.self) == id)
        #expect(row.next(Timestamp.self) == time)
        #expect(row.next(Bool.self) && !row.next(Bool.self))
        #expect(row.next(Int.self) == .min && row.next(Int.self) == 7 && row.next(Int.self) == -7)
        #expect(row.next(Double.self) == 0.1)
        #expect(row.next(String.self) == #"{"a": "'\""}"#)
        #expect(row.next(String.self) == "1999-12-31 22:59:59.123456+00")
    }

    @Test func fragmentsKeepTheirBindsInOrder() throws {
        let inner: SQL = "\(2) + \(3)"
        let middle: SQL = "(\(1) * (\(inner)))"
        let outer: SQL = "select \(verbatim: "'$1'"), \(middle)::int, \("x")"
        #expect(outer.text == "select '$1', ($1 * ($2 + $3))::int, $4")
        #expect(outer.binds == [.text("1"), .text("2"), .text("3"), .text("x")])
        var row = try connection.begin().commit("select (\(1)::int * (\(2)::int + \(3)::int))::int, \("x")::text")[0]
        #expect(row.next(Int.self) == 5 && row.next(String.self) == "x")
    }

    @Test func rowsAndAffected() throws {
        let rows = try connection.begin().commit("select n::int from generate_series(1, 3) n")
        #expect(rows.map { $0.scalar() } == [1, 2, 3])
        #expect(try connection.begin().commit("select 1 where false").scalar(Int.self) == nil)
        let transaction = try connection.begin()
        #expect(try transaction.query("delete from api_keys where false").affected == 0)
        transaction.rollback()
    }
}

extension Row {
    fileprivate func scalar() -> Int {
        var row = self
        return row.next()
    }
}

struct TransactionTests {
    let database: TestDatabase
    let connection: Connection
    let admin: Connection
    /// A table of this test's own.
    let table: String

    init() throws {
        database = try TestDatabase.shared()
        connection = database.administrator()
        admin = database.administrator()
        table = "scratch_" + ID(at: .now()).description.replacing("-", with: "_")
        _ = try admin.begin().commit("create unlogged table \(verbatim: table) (n int constraint \(verbatim: table)_n primary key)")
    }

    private func drop() { _ = try? admin.begin().commit("drop table \(verbatim: table)") }
    private func insert(_ number: Int) -> SQL { "insert into \(verbatim: table) values (\(number))" }
    private func numbers() throws -> [Int] {
        try admin.begin().commit("select coalesce(array_agg(n order by n), '{}') from \(verbatim: table)").scalar([Int].self) ?? []
    }

    @Test func oneErrorUndoesAllOfIt() throws {
        defer { drop() }
        let transaction = try connection.begin()
        try transaction.send(insert(1))
        try transaction.query("select 1")
        try transaction.send(insert(2))
        #expect(throws: DatabaseError.self) { try transaction.commit(insert(2)) }
        #expect(transaction.hasEnded)
        #expect(try numbers() == [])
        #expect(try connection.begin().commit("select 1").scalar(Int.self) == 1, "the connection is usable")
    }

    @Test func anErrorInTheMiddleSurfacesAtTheNextAnswer() throws {
        defer { drop() }
        let transaction = try connection.begin()
        try transaction.send(insert(1))
        try transaction.send("select 1 / 0")
        try transaction.send(insert(2))
        do {
            _ = try transaction.query("select 1")
            Issue.record("the division went through")
        } catch {
            #expect(error.state == "22012" && !error.isTransient)
        }
        transaction.rollback()
        #expect(try numbers() == [])
    }

    @Test func violatedConstraintsAreNamed() throws {
        defer { drop() }
        _ = try connection.begin().commit(insert(1))
        do {
            _ = try connection.begin().commit(insert(1))
            Issue.record("the second one went in")
        } catch {
            #expect(error.constraint == "\(table)_n" && error.state == "23505")
        }
        #expect(throws: APIError.conflict("taken")) {
            try connection.begin().commit(insert(1), refusals: ["\(table)_n": .conflict("taken"), "other": .notFound])
        }
    }

    @Test func whatIsNotCommittedIsNot() throws {
        defer { drop() }
        let transaction = try connection.begin()
        try transaction.query(insert(1))
        transaction.rollback()
        transaction.rollback()
        #expect(try numbers() == [])
        let second = try connection.begin()
        try second.query(insert(2))
        #expect(try numbers() == [], "nobody sees it before the commit")
        try second.commit()
        try second.commit()
        #expect(try numbers() == [2])
    }

    /// A request that gave up without a word must not leak into the next one.
    @Test func anAbandonedTransactionIsGone() throws {
        defer { drop() }
        for asks in [false, true] {
            let abandoned = try connection.begin()
            try abandoned.send("select set_config('thecloud.owner', 'somebody', true)")
            try abandoned.send(insert(1))
            if asks { try abandoned.query("select 1") }
        }
        _ = try connection.begin().commit(insert(2))
        #expect(try numbers() == [2])
        #expect(try connection.begin().commit("select nullif(current_setting('thecloud.owner', true), '')").scalar(String.self) == nil)
    }

    @Test func settingsEndWithTheTransaction() throws {
        defer { drop() }
        let transaction = try connection.begin()
        try transaction.query("select set_config('thecloud.owner', 'somebody', true)")
        #expect(try transaction.query("select current_setting('thecloud.owner')").scalar(String.self) == "somebody")
        try transaction.commit()
        #expect(try connection.begin().commit("select nullif(current_setting('thecloud.owner', true), '')").scalar(String.self) == nil)
    }

    @Test func statementsArePreparedOnce() throws {
        defer { drop() }
        for number in 1...3 {
            let transaction = try connection.begin()
            try transaction.send(insert(number))
            try transaction.send(insert(number + 10))
            try transaction.commit()
        }
        let count = try connection.begin().commit(
            "select count(*) from pg_prepared_statements where statement like \("insert into \(table)%")")
        #expect(count.scalar(Int.self) == 1)
        #expect(try numbers() == [1, 2, 3, 11, 12, 13])
    }

    /// A preparation that an earlier error took along is made again.
    @Test func aSkippedPreparationIsMadeAgain() throws {
        defer { drop() }
        for _ in 1...2 {
            let transaction = try connection.begin()
            try transaction.send("select 1 / 0")
            #expect(throws: DatabaseError.self) { try transaction.commit(insert(1)) }
        }
        _ = try connection.begin().commit(insert(1))
        #expect(try numbers() == [1])
    }

    @Test func aStalePlanIsReplaced() throws {
        defer { drop() }
        let select: SQL = "select * from \(verbatim: table)"
        _ = try connection.begin().commit(select)
        _ = try admin.begin().commit("alter table \(verbatim: table) add column more text")
        do {
            _ = try connection.begin().commit(select)
        } catch {
            #expect(error.isTransient)
        }
        _ = try connection.begin().commit(select)
    }
}
