// What bodies of /autoscaling/groups may say.
import API
import Docker
import HTTP

extension ScalingGroups {
    /// How many members there are to be, and the rules between the numbers.
    struct Numbers {
        let least: Int
        let most: Int
        let desired: Int

        static let leastRule = Rule.integer(0...20)
        static let mostRule = Rule.integer(1...20)
        static let desiredRule = Rule.integer(0...20)

        /// Reports what does not fit together. Members of a group that may have several can't all have one host port.
        func check(_ ports: [PortMapping], _ body: inout Fields) {
            if least > most { body.report("min_instances", "must not be greater than max_instances") }
            if least <= most, !(least...most).contains(desired) {
                body.report("desired_count", "must be from min_instances to max_instances, here \(least) to \(most)")
            }
            if most > 1, ports.contains(where: { $0.host != 0 }) {
                body.report("ports", "must leave host ports to us (0) where max_instances is greater than 1")
            }
        }
    }

    struct Draft {
        let name: String
        let vpc: ID
        let image: ImageReference
        let numbers: Numbers
        let ports: [PortMapping]
        let balancer: ID?
        /// Of members, where the load balancer sends requests.
        let targetPort: Int?
        let type: InstanceType
        let env: [String: String]
        let command: [String]?

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            let vpc = body.required("vpc_id", .id)
            let image = body.required("image", .image)
            let least = body.required("min_instances", Numbers.leastRule)
            let most = body.required("max_instances", Numbers.mostRule)
            let desired = body.required("desired_count", Numbers.desiredRule)
            ports = body.optional("ports", .ports) ?? []
            balancer = body.optional("load_balancer_id", .id)
            let named = body.optional("target_port", .integer(1...65535))
            targetPort = balancer == nil ? nil : named ?? ports.first?.container
            type = body.optional("instance_type", .instanceType) ?? .small
            env = body.optional("env", .env) ?? [:]
            command = body.optional("command", .command)
            if body.has("load_balancer_id"), !body.has("target_port"), ports.isEmpty {
                body.report("target_port", "is required with load_balancer_id where ports names none")
            }
            if body.has("target_port"), !body.has("load_balancer_id") { body.report("target_port", "needs a load_balancer_id") }
            if let least, let most, let desired { Numbers(least: least, most: most, desired: desired).check(ports, &body) }
            guard let name, let vpc, let image, let least, let most, let desired, body.problems == nil else { throw body.refusal }
            (self.name, self.vpc, self.image) = (name, vpc, image)
            numbers = Numbers(least: least, most: most, desired: desired)
        }
    }

    struct Change {
        let name: String?
        private let least: Int?
        private let most: Int?
        private let desired: Int?
        private let body: Fields

        init(_ body: Fields) throws(APIError) {
            var body = body
            name = body.optional("name", .resourceName)
            least = body.optional("min_instances", Numbers.leastRule)
            most = body.optional("max_instances", Numbers.mostRule)
            desired = body.optional("desired_count", Numbers.desiredRule)
            let isEmpty = name == nil && least == nil && most == nil && desired == nil
            if isEmpty, body.problems == nil {
                body.report("desired_count", "or name, min_instances or max_instances is required")
            }
            if let problems = body.problems { throw problems }
            self.body = body
        }

        /// What the numbers are then.
        /// - Throws: `invalid` where they don't fit together.
        func numbers(from present: Numbers, _ ports: [PortMapping]) throws(APIError) -> Numbers {
            var body = body
            let numbers = Numbers(least: least ?? present.least, most: most ?? present.most, desired: desired ?? present.desired)
            numbers.check(ports, &body)
            if let problems = body.problems { throw problems }
            return numbers
        }
    }
}
