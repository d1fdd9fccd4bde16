// Seats: whoever takes a connection has it alone, and no call is lost.
import Glibc
import Synchronization
import System
import Testing

@testable import FastCGI

@Suite struct SeatsTests {
    @Test func aHeldConnectionIsNobodyElses() throws {
        let seats = Seats()
        #expect(seats.take(40) == nil, "there is no such seat yet")
        #expect(seats.hold(40))
        #expect(seats.take(40) == nil)
        #expect(!seats.give(Visitor(40, isNew: false)))
        let visitor = try #require(seats.take(40))
        #expect(visitor.descriptor == 40)
        #expect(seats.takeAny() == nil)
        #expect(seats.call(40) == nil)
        #expect(seats.call(40) == nil)
        #expect(seats.give(visitor), "it was called meanwhile")
        #expect(seats.call(40) != nil)
        #expect(!seats.give(visitor))
    }

    @Test func whoeverIsAwaitedIsFound() throws {
        let seats = Seats()
        for descriptor: Int32 in [9, 11, 300] {
            #expect(seats.hold(descriptor))
            _ = seats.give(Visitor(descriptor, isNew: descriptor == 11))
        }
        #expect(seats.hasAwaited)
        #expect(seats.takeAwaited(until: .now) == nil)
        #expect(seats.takeAwaited(until: .now + .seconds(60))?.descriptor == 11)
        #expect(!seats.hasAwaited)
        #expect(seats.takeAwaited() == nil)
        #expect([seats.takeAny()?.descriptor, seats.takeAny()?.descriptor, seats.takeAny()?.descriptor] == [9, 300, nil])
    }

    @Test func aNumberBeyondAllSeatsIsRefused() {
        #expect(!Seats().hold(.max))
    }

    /// Threads call a connection again and again; whoever gets it looks at what has come. At the end everything has been looked at.
    @Test func noCallIsLost() {
        let (threads, calls) = (4, 20_000)
        let table = Table()
        let work = (0..<threads).map { _ in
            WorkerThread {
                for _ in 0..<calls {
                    table.come.add(1, ordering: .sequentiallyConsistent)
                    while let visitor = table.seats.call(5) {
                        if table.inside.add(1, ordering: .sequentiallyConsistent).newValue > 1 { table.clashes.add(1, ordering: .relaxed) }
                        table.seen.store(table.come.load(ordering: .sequentiallyConsistent), ordering: .sequentiallyConsistent)
                        table.inside.subtract(1, ordering: .sequentiallyConsistent)
                        if !table.seats.give(visitor) { break }
                    }
                }
            }
        }
        for thread in work { thread.join() }
        #expect(table.clashes.load(ordering: .relaxed) == 0)
        #expect(table.seen.load(ordering: .relaxed) == threads * calls)
    }

    private final class Table: Sendable {
        let seats = Seats()
        let come = Atomic(0)
        let seen = Atomic(0)
        let inside = Atomic(0)
        let clashes = Atomic(0)

        init() {
            _ = seats.hold(5)
            _ = seats.give(Visitor(5, isNew: false))
        }
    }
}
