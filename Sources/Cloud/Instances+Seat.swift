// Where an instance lives: in one of its owner's VPCs, maybe in a subnet of it, or in neither. Tables: vpcs, subnets, addresses.
import API
import HTTP
import Postgres

struct Seat {
    let vpc: ID?
    let subnet: ID?

    /// Reads `vpc_id` and `subnet_id`, either of which is enough, and reports what is not the caller's; costs a round trip where one is given.
    init(_ body: inout Fields, _ context: Context) throws {
        let (vpc, subnet) = (body.optional("vpc_id", .id), body.optional("subnet_id", .id))
        guard vpc != nil || subnet != nil else {
            (self.vpc, self.subnet) = (nil, nil)
            return
        }
        let rows = try context.query(
            """
            select v.id, s.id, s.vpc_id from (select) one
            left join vpcs v on v.id = \(vpc) left join subnets s on s.id = \(subnet)
            """)
        var row = rows[0]
        let (knownVPC, knownSubnet, home): (ID?, ID?, ID?) = (row.next(), row.next(), row.next())
        if vpc != knownVPC { body.report("vpc_id", Rule<ID>.id.requirement) }
        if subnet != knownSubnet {
            body.report("subnet_id", Rule<ID>.id.requirement)
        } else if let vpc, vpc == knownVPC, let home, vpc != home {
            body.report("subnet_id", "must be the id of a subnet of the VPC")
        }
        self.vpc = home ?? knownVPC
        self.subnet = knownSubnet
    }

    /// What a client is told when one of them was deleted a moment ago.
    static let refusals: [String: APIError] = [
        "instances_vpc": .invalid("vpc_id", Rule<ID>.id.requirement), "instances_subnet": .invalid("subnet_id", Rule<ID>.id.requirement),
    ]

    /// A further part of the `with` that makes the instance: the address that is its own.
    func address(of instance: ID) -> SQL {
        guard let vpc else { return "" }
        return """
            , seated as (
                insert into addresses (network_id, number, instance_id)
                select \(vpc), pick_address(\(vpc), \(subnet), '{}'), \(instance)
            )
            """
    }
}
