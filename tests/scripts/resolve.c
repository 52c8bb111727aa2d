/* resolve NAME [4|6]: the addresses that the C library's resolver finds for NAME, one a line. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **words)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found, *each;
    int code;

    if (count < 2) {
        fputs("usage: resolve NAME [4|6]\n", stderr);
        return 2;
    }
    if (count > 2)
        hints.ai_family = words[2][0] == '6' ? AF_INET6 : AF_INET;
    code = getaddrinfo(words[1], NULL, &hints, &found);
    if (code) {
        printf("%s\n", gai_strerror(code));
        return 1;
    }
    for (each = found; each; each = each->ai_next) {
        char text[INET6_ADDRSTRLEN];
        const void *address = each->ai_family == AF_INET6
            ? (const void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr
            : (const void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr;
        puts(inet_ntop(each->ai_family, address, text, sizeof text));
    }
    freeaddrinfo(found);
    return 0;
}
