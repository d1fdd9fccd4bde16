// What a running proxy says of itself, and what its successor is told of it: a target that nobody has checked yet, or that is DOWN, gets no
// request from a new configuration either, before a check has succeeded.
package import HTTP

package struct ProxyState: Sendable, Equatable {
    package struct Server: Sendable, Equatable {
        package let isUp: Bool
        /// False until the first check is over.
        package let isChecked: Bool
        /// Why the last check failed; `nil` where it did not.
        package let reason: String?
        let address: String
        /// How many failures it is away from being DOWN.
        let health: Int
    }

    /// Of the configuration that it has; `nil` when it did not say.
    package let fingerprint: String?
    /// By the ids of the instances.
    package let servers: [ID: Server]

    /// Of a proxy that has checked nothing yet.
    package static let initial = ProxyState("description: -")

    static let file = "servers.state"
    static let backend = "targets"

    /// What is asked of the console: all that is parsed here.
    static let question = "show info;show stat -1 4 -1"

    /// - Parameter text: the answer to `question`.
    init(_ text: String) {
        var (fingerprint, columns, servers): (String?, [String: Int], [ID: Server]) = (nil, [:], [:])
        for line in text.split(whereSeparator: \.isNewline) {
            if line.hasPrefix("description: ") {
                fingerprint = String(line.dropFirst("description: ".count))
            } else if line.hasPrefix("# pxname,") {
                columns = Dictionary(Self.cells(line.dropFirst(2)).enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
            } else if line.hasPrefix(Self.backend + ","), !columns.isEmpty {
                let cells = Self.cells(line)
                func cell(_ name: String) -> String { columns[name].flatMap { cells.indices.contains($0) ? cells[$0] : nil } ?? "" }
                if let id = ID(cell("svname")) { servers[id] = Server(cell) }
            }
        }
        self.fingerprint = fingerprint
        self.servers = servers
    }

    /// One line of comma-separated values (RFC 4180).
    private static func cells(_ line: Substring) -> [String] {
        var (cells, cell, isQuoted) = ([String](), "", false)
        for character in line {
            switch character {
            case "\"": isQuoted.toggle()
            case "," where !isQuoted:
                cells.append(cell)
                cell = ""
            default: cell.append(character)
            }
        }
        return cells + [cell]
    }

    /// The file that a proxy with this configuration reads at its start (version 1 of HAProxy's format).
    func file(for configuration: ProxyConfiguration) -> String {
        let lines = configuration.targets.enumerated().map { index, target in
            let known = servers[target.id].flatMap { $0.address == "\(target.address):\(target.port)" && $0.isUp ? $0 : nil }
            let health = known.map { min(max($0.health, 1), configuration.check.threshold) } ?? 0
            let (state, result, check) = known == nil ? (0, 0, 0) : (2, 3, 6)
            return
                "0 \(Self.backend) \(index + 1) \(target.id) \(target.address) \(state) 0 \(target.weight) \(target.weight) 0 1 \(result)"
                + " \(health) \(check) 0 0 0 - \(target.port) - 0 0 - - 0\n"
        }
        return Self.head + lines.joined()
    }

    /// Knows no server: each is taken for healthy until its first check.
    static let head = """
        1
        # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change \
        srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port \
        srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port

        """
}

extension ProxyState.Server {
    fileprivate init(_ cell: (String) -> String) {
        isUp = cell("status").hasPrefix("UP")
        address = cell("addr")
        health = Int(cell("check_health")) ?? 0
        // A star marks a check that is just under way.
        let check = cell("check_status").drop { $0 == "*" || $0 == " " }
        isChecked = check != "INI" && !check.isEmpty
        reason =
            switch check {
            case "", "INI", "L4OK", "L6OK", "L7OK", "L7OKC": nil
            case "L4CON": "It takes no connection"
            case "L4TOUT": "No connection in time"
            case "L7TOUT": "No answer in time"
            case "L7STS": "It answered with status \(cell("check_code"))"
            case "L7RSP": "Its answer is not HTTP"
            default: cell("check_desc")
            }
    }
}
