// The published description against the route table, both ways. Paths stand at two spaces, methods at four.
import API
import Foundation
import HTTP
import TestSupport
import Testing

struct OpenAPITests {
    /// `GET /instances/:id` and so on, as the file lists them.
    private static func described() throws -> Set<String> {
        let text = try String(contentsOfFile: repository + "/nginx/html/openapi.yaml", encoding: .utf8)
        var (operations, path, isInside) = (Set<String>(), "", false)
        for line in text.split(separator: "\n") {
            if line.first != " ", line.first != "#" { isInside = line.hasPrefix("paths:") }
            guard isInside else { continue }
            if let match = line.wholeMatch(of: /\ {2}["']?(\/[^"':]*)["']?:\s*/) {
                path = String(match.1).replacing(/\{([A-Za-z_]+)\}/) { ":" + $0.1 }
            } else if let match = line.wholeMatch(of: /\ {4}(get|put|post|delete|patch|head|options):\s*/) {
                operations.insert("\(match.1.uppercased()) \(path)")
            }
        }
        return operations
    }

    @Test func everyRouteIsDescribed() throws {
        let missing = Set(Probe.all.map(\.name)).subtracting(try Self.described())
        #expect(missing.isEmpty, "nginx/html/openapi.yaml lacks \(missing.sorted().joined(separator: ", "))")
    }

    @Test func everythingDescribedIsARoute() throws {
        let invented = try Self.described().subtracting(Probe.all.map(\.name))
        #expect(invented.isEmpty, "nginx/html/openapi.yaml describes what nobody answers: \(invented.sorted().joined(separator: ", "))")
    }
}
