from search_service.main import main

main()
