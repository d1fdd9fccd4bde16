// The text for HAProxy, and the reading of what it says.
import Foundation
import HTTP
import Testing

@testable import Balancing

struct ConfigurationTests {
    private let first = ID("01890000-0000-7000-8000-000000000001")!
    private let second = ID("01890000-0000-7000-8000-000000000002")!

    private func configuration(path: String?, _ algorithm: ProxyConfiguration.Algorithm = .roundRobin) -> ProxyConfiguration {
        ProxyConfiguration(
            port: 8404, algorithm: algorithm, check: .init(path: path, interval: 2, threshold: 3),
            targets: [
                .init(id: first, address: "10.1.0.2", port: 80, weight: 1), .init(id: second, address: "10.1.0.3", port: 8080, weight: 256),
            ])
    }

    private func backend(_ configuration: ProxyConfiguration) -> String {
        configuration.text.range(of: "\n\n", options: .backwards).map { String(configuration.text[$0.upperBound...]) } ?? ""
    }

    @Test func backends() {
        #expect(
            backend(configuration(path: nil)) == """
                backend targets
                    balance roundrobin
                    load-server-state-from-file global
                    http-request disable-l7-retry unless { method GET HEAD OPTIONS PUT DELETE }
                    default-server check inter 2s fall 3 rise 1
                    server 01890000-0000-7000-8000-000000000001 10.1.0.2:80 weight 1
                    server 01890000-0000-7000-8000-000000000002 10.1.0.3:8080 weight 256

                """)
        #expect(
            backend(configuration(path: "/health?deep=1", .leastConnections)) == """
                backend targets
                    balance leastconn
                    load-server-state-from-file global
                    http-request disable-l7-retry unless { method GET HEAD OPTIONS PUT DELETE }
                    option httpchk
                    http-check send meth GET uri '/health?deep=1' ver HTTP/1.1 hdr Host localhost hdr User-Agent TheCloud-HealthCheck/1.0
                    http-check expect status 200-399
                    default-server check inter 2s fall 3 rise 1
                    server 01890000-0000-7000-8000-000000000001 10.1.0.2:80 weight 1
                    server 01890000-0000-7000-8000-000000000002 10.1.0.3:8080 weight 256

                """)
    }

    @Test func theConsoleEvadesThePort() {
        let text = configuration(path: nil).text
        #expect(text.contains("    bind :8404\n") && text.contains("    stats socket ipv4@127.0.0.1:8405 level operator\n"))
    }

    @Test func theFingerprintIsThatOfTheText() {
        #expect(configuration(path: nil).fingerprint == configuration(path: nil).fingerprint)
        #expect(configuration(path: nil).fingerprint != configuration(path: "/").fingerprint)
        #expect(configuration(path: nil).text.contains("    description \(configuration(path: nil).fingerprint)\n"))
    }

    private let answer = """
        Name: HAProxy
        description: abc-_
        # pxname,svname,qcur,status,check_status,check_code,check_desc,check_health,addr,last_chk,
        targets,01890000-0000-7000-8000-000000000001,0,UP 1/3,* L7STS,500,Layer7 wrong status,1,10.1.0.2:80,"a ""b"", c",
        targets,01890000-0000-7000-8000-000000000002,0,DOWN,INI,,Initializing,0,10.1.0.3:8080,,

        """

    @Test func whatTheProxySays() {
        let state = ProxyState(answer)
        #expect(state.fingerprint == "abc-_")
        #expect(
            state.servers[first]
                == .init(isUp: true, isChecked: true, reason: "It answered with status 500", address: "10.1.0.2:80", health: 1))
        #expect(state.servers[second] == .init(isUp: false, isChecked: false, reason: nil, address: "10.1.0.3:8080", health: 0))
        #expect(ProxyState("nc: can't connect\n") == ProxyState(""))
    }

    @Test func whatItsSuccessorIsTold() {
        let told = ProxyState(answer).file(for: configuration(path: nil)).split(separator: "\n").dropFirst(2)
        #expect(
            told == [
                "0 targets 1 01890000-0000-7000-8000-000000000001 10.1.0.2 2 0 1 1 0 1 3 1 6 0 0 0 - 80 - 0 0 - - 0",
                "0 targets 2 01890000-0000-7000-8000-000000000002 10.1.0.3 0 0 256 256 0 1 0 0 0 0 0 0 - 8080 - 0 0 - - 0",
            ])
    }
}
