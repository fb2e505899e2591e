%% A target with one guilty function: nine tenths of its CPU time.
-module(busy).
-export([main/0, guilty/2, innocent/2]).

guilty(0, X) -> X;
guilty(N, X) -> guilty(N - 1, (X + N * N) rem 1000003).

innocent(0, X) -> X;
innocent(N, X) -> innocent(N - 1, (X + N * N) rem 1000003).

main() ->
    guilty(900000, 0),
    innocent(100000, 0),
    main().
