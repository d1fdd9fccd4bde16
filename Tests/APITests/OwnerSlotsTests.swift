// What one owner may hold of the long pool.
import API
import HTTP
import Testing

@Suite struct OwnerSlotsTests {
    @Test func anOwnerHasSoManyAndNobodyElseIsTouched() throws {
        let slots = OwnerSlots("requests that wait")
        let (one, other) = (ID(high: 0, low: 1), ID(high: 0, low: 2))
        for _ in 0..<2 {
            try slots.hold(for: one, limit: 2) {
                try slots.hold(for: one, limit: 2) {
                    #expect(throws: APIError.quotaExceeded("at most 2 requests that wait")) { try slots.hold(for: one, limit: 2) {} }
                    let answer = try slots.hold(for: other, limit: 2) { "in" }
                    #expect(answer == "in")
                }
            }
        }
    }

    @Test func aSlotIsGivenBackWhenTheBodyFails() throws {
        let slots = OwnerSlots("requests that wait")
        let owner = ID(high: 0, low: 1)
        for _ in 0..<3 {
            #expect(throws: APIError.notFound) { try slots.hold(for: owner, limit: 1) { throw APIError.notFound } }
        }
    }
}
