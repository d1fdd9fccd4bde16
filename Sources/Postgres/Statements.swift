// The statements that a session has prepared, found by their shape: where their literals stand in the program, and what else they are made of.
// So a statement that is sent again costs neither its text nor a look at it.

struct Statements {
    struct Statement {
        let name: String
        let shape: [SQL.Part]
    }

    private var known: [Int: [Statement]] = [:]
    private var count = 0

    subscript(sql: SQL) -> Statement? { known[sql.shapeHash]?.first { sql.hasShape($0.shape) } }

    /// A name for a statement that is being prepared; `add` it when it is.
    mutating func name(_ sql: SQL) -> Statement {
        count += 1
        return Statement(
            name: "s\(count)",
            shape: sql.parts.map { if case .bind = $0 { .bind(.null) } else { $0 } })
    }

    mutating func add(_ statement: Statement) {
        known[statement.shape.shapeHash, default: []].append(statement)
    }

    /// They have to be prepared anew.
    mutating func forget() { known = [:] }
}

extension SQL {
    fileprivate var shapeHash: Int { parts.shapeHash }

    func hasShape(_ shape: [Part]) -> Bool {
        guard parts.count == shape.count else { return false }
        for index in parts.indices {
            switch (parts[index], shape[index]) {
            case (.literal(let one), .literal(let other))
            where one.utf8Start == other.utf8Start && one.utf8CodeUnitCount == other.utf8CodeUnitCount:
                continue
            case (.text(let one), .text(let other)) where one == other: continue
            case (.bind, .bind): continue
            default: return false
            }
        }
        return true
    }
}

extension [SQL.Part] {
    fileprivate var shapeHash: Int {
        var hash = 0
        for part in self {
            let one =
                switch part {
                case .literal(let text): Int(bitPattern: text.utf8Start)
                case .text(let text): text.hashValue
                case .bind: 1
                }
            hash = (hash &+ one) &* 0x2545_F491_4F6C_DD1D
            hash ^= hash >> 29
        }
        return hash
    }
}
