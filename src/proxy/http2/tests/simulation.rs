//! Two ends of the engine that do what chance has them do, over a pipe that cuts bytes where chance has it cut: what
//! arrives is what was sent, and nothing is left at the end.
