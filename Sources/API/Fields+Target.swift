// URLs in bodies that we are to call later: judged by the egress rule as far as their text goes.
package import HTTP
package import Outbound

extension Fields {
    /// What a URL leads to; `nil` where (then reported) it is no URL that we call, or its host is an address that the rule refuses.
    package mutating func target(_ name: String, _ url: String, _ rule: EgressRule) -> Target? {
        do {
            let target = try Target(url)
            if rule.admits(target) { return target }
            forbid(name, EgressRule.refusal)
        } catch {
            report(name, error.description)
        }
        return nil
    }
}
