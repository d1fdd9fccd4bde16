// 0, 1, 2 … for threads side by side.
import Synchronization

final class Numbers: Sendable {
    private let next = Atomic(0)

    func take() -> Int { next.add(1, ordering: .relaxed).oldValue }
}
