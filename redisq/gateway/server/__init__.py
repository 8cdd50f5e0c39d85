"""The HTTP server: uvicorn with a limit on everything. It imports nothing of the gateway.

What it adds to uvicorn, and why:

    Deadlines       uvicorn times the pause between two requests and nothing else, so a client that sends a byte now and
                    then, or does not read its answer, holds a connection and its memory for ever. Here a head, a pause
                    within a body, a whole body, an answer that is to be read and the application each have an end
                    (`Connection.look`); a slow line gets longer by the bytes that it moves.
    Sizes           A head and the fields in it are bounded, and so is what surrounds chunks, as parts that the parser
                    only counts cost memory and time, too. So are requests that wait behind one another.
    Smuggling       Of a request that two servers could read in two ways a proxy in front sees the one and this server
                    the other. What llhttp lets pass is refused (`heads`), and nothing after it on its connection runs.
    Connections     uvicorn counts them in all, and answers each one beyond with 503. Here each address has a number of
                    its own, behind trusted proxies each client has (`Connections`), and TLS is counted before the
                    handshake, which one can leave undone (`Handshake`).
    Addresses       Whose request it is counts for limits and tokens, so X-Forwarded-For is believed from trusted
                    proxies alone, and only as far as they wrote it (`addresses`).
    The end         A client that still sends gets its refusal: the answer's side is closed, the other is read for a
                    while (`BoundedTransport`). A message that was claimed goes back when its answer was not read
                    (`Line`).
    Stopping        What is idle is closed at once, what runs has its grace, and then it is cut (`Server`); uvicorn
                    waits for whoever does not read, and raises the signal once more.

A limit that uvicorn gets is to be taken out here.
"""
