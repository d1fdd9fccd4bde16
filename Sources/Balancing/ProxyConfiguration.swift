// What a load balancer is, as HAProxy (2.6 or newer) reads it. The text is a function of the value, so two that are equal are written alike,
// and its fingerprint, which the running proxy tells (`ProxyConsole`), says whether it has it already.
import Crypto
package import HTTP

package struct ProxyConfiguration: Sendable, Equatable {
    package enum Algorithm: String, CaseIterable, Sendable {
        case roundRobin = "round-robin"
        case leastConnections = "least-conn"
    }

    package struct HealthCheck: Sendable, Equatable {
        /// Asked with GET, where 2xx and 3xx are healthy; `nil`: it is enough that a connection is taken. Free of quotes and backslashes.
        package let path: String?
        /// In seconds.
        package let interval: Int
        /// Failures in a row after which a target is DOWN; one success brings it back.
        package let threshold: Int

        package init(path: String?, interval: Int, threshold: Int) {
            self.path = path
            self.interval = interval
            self.threshold = threshold
        }
    }

    package struct Target: Sendable, Equatable {
        /// Of the instance.
        package let id: ID
        package let address: String
        package let port: Int
        package let weight: Int

        package init(id: ID, address: String, port: Int, weight: Int) {
            self.id = id
            self.address = address
            self.port = port
            self.weight = weight
        }
    }

    package let port: Int
    package let algorithm: Algorithm
    package let check: HealthCheck
    package let targets: [Target]

    package init(port: Int, algorithm: Algorithm, check: HealthCheck, targets: [Target]) {
        self.port = port
        self.algorithm = algorithm
        self.check = check
        self.targets = targets
    }

    /// Where the official image reads it.
    package static let folder = "/usr/local/etc/haproxy"

    /// Of the console, inside the container only.
    package static func consolePort(besides port: Int) -> Int { port == 8404 ? 8405 : 8404 }

    package var fingerprint: String { Base64.url.encode(SHA256.digest(text(fingerprint: "-"))) }

    package var text: String { text(fingerprint: fingerprint) }

    /// `idle-close-on-response`: a worker that is being replaced answers once more on connections that clients keep, so nothing fails when
    /// the configuration changes. `disable-l7-retry`: what may have been carried out is not sent twice.
    private func text(fingerprint: String) -> String {
        let console = Self.consolePort(besides: port)
        return """
            global
                description \(fingerprint)
                log stdout format raw local0 notice
                nbthread 1
                maxconn 4096
                hard-stop-after 5m
                mworker-max-reloads 20
                server-state-file \(Self.folder)/\(ProxyState.file)
                stats socket ipv4@127.0.0.1:\(console) level operator

            defaults
                mode http
                log global
                timeout connect 2s
                timeout client 60s
                timeout server 60s
                timeout tunnel 1h
                timeout queue 10s
                timeout http-request 30s
                timeout http-keep-alive 10s
                timeout check \(min(check.interval, 5))s
                option dontlognull
                option idle-close-on-response
                option redispatch 1
                retries 3
                retry-on conn-failure empty-response
            \(Refusal.all.map(\.line).joined(separator: "\n"))

            frontend public
                bind :\(port)
                option forwardfor
                unique-id-format %[uuid()]
                http-request set-header X-Request-ID %[unique-id] unless { req.hdr(X-Request-ID) -m reg ^[A-Za-z0-9_.-]{1,64}$ }
                http-request set-var(txn.request_id) req.hdr(X-Request-ID)
                http-request set-header X-Forwarded-Proto http
                http-after-response set-header X-Request-ID %[var(txn.request_id)]
                default_backend \(ProxyState.backend)

            backend \(ProxyState.backend)
                balance \(algorithm == .roundRobin ? "roundrobin" : "leastconn")
                load-server-state-from-file global
                http-request disable-l7-retry unless { method GET HEAD OPTIONS PUT DELETE }
            \(checks)    default-server check inter \(check.interval)s fall \(check.threshold) rise 1
            \(targets.map { "    server \($0.id) \($0.address):\($0.port) weight \($0.weight)\n" }.joined())
            """
    }

    private var checks: String {
        guard let path = check.path else { return "" }
        return """
                option httpchk
                http-check send meth GET uri '\(path)' ver HTTP/1.1 hdr Host localhost hdr User-Agent TheCloud-HealthCheck/1.0
                http-check expect status 200-399

            """
    }
}

/// An answer that the proxy gives itself, in the product's one error body.
private struct Refusal {
    let status: Int
    let kind: String
    let code: String
    let message: String

    /// Without apostrophes and percent signs: they end up within HAProxy's strong quotes, and in its format of logs.
    static let all = [
        Refusal(status: 400, kind: "bad_request", code: "BAD_REQUEST", message: "The request is malformed"),
        Refusal(status: 408, kind: "request_timeout", code: "REQUEST_TIMEOUT", message: "The request did not arrive in time"),
        Refusal(status: 500, kind: "internal", code: "INTERNAL", message: "Something went wrong in the load balancer"),
        Refusal(status: 502, kind: "bad_gateway", code: "BAD_GATEWAY", message: "The target gave no usable answer"),
        Refusal(status: 503, kind: "unavailable", code: "UNAVAILABLE", message: "No healthy target is left"),
        Refusal(status: 504, kind: "timed_out", code: "GATEWAY_TIMEOUT", message: "The target did not answer in time"),
    ]

    var line: String {
        let body: JSON = [
            "error": .string(kind), "message": .string(message), "code": .int(status), "detail": .string(message),
            "error_code": .string(code), "status_code": .int(status), "request_id": "%[var(txn.request_id)]", "errors": [],
        ]
        return "    http-error status \(status) content-type \"application/json; charset=utf-8\" lf-string '\(body.text)'"
            + " hdr Cache-Control no-store" + (status == 503 ? " hdr Retry-After 2" : "")
    }
}
